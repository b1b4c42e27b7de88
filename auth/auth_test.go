package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5" // another library than the one under test
)

const secretText = "a-secret-of-at-least-32-characters"

// world is keys of all kinds, and a verifier that knows their public halves.
type world struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
	v   *Verifier
}

func newWorld(t testing.TB, audience ...string) *world {
	t.Helper()
	w := &world{}
	var err1, err2, err3 error
	w.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	w.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, w.ed, err3 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	keys, err := ParseSecrets("s:" + secretText)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{w.rsa, w.ec, w.ed} {
		more, err := ParseKeys(publicPEM(t, k))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, more...)
	}
	if w.v, err = NewVerifier(Config{Keys: keys, Terms: Terms{Audience: audience}}); err != nil {
		t.Fatal(err)
	}
	return w
}

func publicPEM(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func privatePEM(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// signed returns a token made by the other library.
func signed(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

func TestVerify(t *testing.T) {
	w := newWorld(t)
	good := jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour), "jti": "t1"}
	for _, tt := range []struct {
		name   string
		method jwt.SigningMethod
		key    any
		header map[string]any
		claims jwt.MapClaims
		want   error
	}{
		{"HS256", jwt.SigningMethodHS256, []byte(secretText), map[string]any{"kid": "s"}, good, nil},
		{"HS256 without kid", jwt.SigningMethodHS256, []byte(secretText), nil, good, nil},
		{"RS256", jwt.SigningMethodRS256, w.rsa, nil, good, nil},
		{"RS256, a kid that PEM does not have", jwt.SigningMethodRS256, w.rsa, map[string]any{"kid": "x"}, good, nil},
		{"ES256", jwt.SigningMethodES256, w.ec, nil, good, nil},
		{"EdDSA", jwt.SigningMethodEdDSA, w.ed, nil, good, nil},
		{"wrong kid", jwt.SigningMethodHS256, []byte(secretText), map[string]any{"kid": "other"}, good, ErrSignature},
		{"wrong secret", jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), nil, good, ErrSignature},
		{"empty secret", jwt.SigningMethodHS256, []byte{}, nil, good, ErrSignature},
		{"alg none", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, good, ErrMalformed},
		{"HS512 by a secret of less than 64 bytes", jwt.SigningMethodHS512, []byte(secretText), nil, good, ErrSignature},
		{"RS512", jwt.SigningMethodRS512, w.rsa, nil, good, nil},
		{"PS256", jwt.SigningMethodPS256, w.rsa, nil, good, nil},
		{"key confusion: HS256 by the RSA key's PEM", jwt.SigningMethodHS256, publicPEM(t, w.rsa), nil, good, ErrSignature},
		{"key confusion: HS256 by the Ed25519 key", jwt.SigningMethodHS256, []byte(w.ed.Public().(ed25519.PublicKey)), nil, good, ErrSignature},
		{"crit", jwt.SigningMethodRS256, w.rsa, map[string]any{"crit": []string{"b64"}, "b64": false}, good, ErrMalformed},
		{"b64", jwt.SigningMethodRS256, w.rsa, map[string]any{"b64": true}, good, ErrMalformed},
		{"a key in the header", jwt.SigningMethodEdDSA, otherKey(t), map[string]any{"jwk": jwkOf(t, otherKey(t))}, good, ErrSignature},
		{"a key's URL in the header", jwt.SigningMethodEdDSA, otherKey(t), map[string]any{"jku": "http://127.0.0.1:1/"}, good, ErrSignature},
		{"expired", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": in(-time.Second)}, ErrExpired},
		{"no exp", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1"}, ErrNoExpiry},
		{"exp beyond all times", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": 1e300}, ErrNoExpiry},
		{"negative exp", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": -1}, ErrNoExpiry},
		{"exp as text", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": "2099"}, ErrClaims},
		{"not yet", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour), "nbf": in(time.Minute)}, ErrNotYet},
		{"a clock that is a little ahead", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "jti": "t1", "exp": in(time.Hour), "nbf": in(10 * time.Second)}, nil},
		{"issued in the future", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour), "iat": in(time.Minute)}, ErrNotYet},
		{"iat as text", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour), "iat": "now"}, ErrClaims},
		{"an iat that is no time", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": "user_1", "jti": "t1", "exp": in(time.Hour), "iat": -1}, nil},
		{"no sub", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"exp": in(time.Hour)}, ErrNoSubject},
		{"sub is a number", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"sub": 1, "exp": in(time.Hour)}, ErrClaims},
		{"Sub in capitals", jwt.SigningMethodRS256, w.rsa, nil, jwt.MapClaims{"Sub": "user_1", "exp": in(time.Hour)}, ErrNoSubject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := w.v.Verify(t.Context(), signed(t, tt.method, tt.key, tt.header, tt.claims))
			if !errors.Is(err, tt.want) {
				t.Fatalf("Verify = %+v, %v, want %v", c, err, tt.want)
			}
			if err == nil && (c.Subject != "user_1" || c.ID != "t1" || time.Until(c.Expires) < 59*time.Minute) {
				t.Errorf("claims %+v", c)
			}
		})
	}
}

func otherKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
}

func jwkOf(t testing.TB, k ed25519.PrivateKey) map[string]any {
	t.Helper()
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(k.Public().(ed25519.PublicKey))}
}

func TestVerifyAudience(t *testing.T) {
	w := newWorld(t, "events", "events-eu")
	for _, tt := range []struct {
		aud  any
		want error
	}{
		{"events", nil},
		{[]string{"other", "events-eu"}, nil},
		{"other", ErrAudience},
		{[]string{}, ErrAudience},
		{nil, ErrAudience},
		{7, ErrClaims},
	} {
		token := signed(t, jwt.SigningMethodEdDSA, w.ed, nil, jwt.MapClaims{"sub": "u", "exp": in(time.Hour), "aud": tt.aud})
		if _, err := w.v.Verify(t.Context(), token); !errors.Is(err, tt.want) {
			t.Errorf("aud %v: %v, want %v", tt.aud, err, tt.want)
		}
	}
}

// What was signed by one of our keys, and then changed or put together anew.
func TestVerifyTampered(t *testing.T) {
	w := newWorld(t)
	token := signed(t, jwt.SigningMethodES256, w.ec, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour)})
	part := strings.Split(token, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	other := b64([]byte(fmt.Sprintf(`{"sub":"user_2","exp":%d}`, in(time.Hour))))
	for _, bad := range []string{
		"", ".", "..", "...", token + ".", token + ".x", "x" + token, strings.Repeat(token, 40),
		part[0] + "." + other + "." + part[2],
		part[0] + "." + part[1] + ".",
		b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".",
		b64([]byte(`{"alg":"none"}`)) + "." + part[1] + "." + part[2],
		b64([]byte(`{"alg":"nOnE"}`)) + "." + part[1] + "." + part[2],
		b64([]byte(`{"alg":"RS256","alg":"ES256"}`)) + "." + part[1] + "." + part[2],
		b64([]byte(`{}`)) + "." + part[1] + "." + part[2],
		`{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`,
		part[0] + "." + part[1] + "." + b64(make([]byte, 64)),
		part[0] + "." + strings.Repeat("A", MaxToken-len(part[0])-len(part[2])-2) + "." + part[2],
	} {
		if c, err := w.v.Verify(t.Context(), bad); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
			t.Errorf("%.80q: %+v, %v, want it refused", bad, c, err)
		}
	}
	signedTwice := signed(t, jwt.SigningMethodES256, w.ec, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour)})
	if _, err := w.v.Verify(t.Context(), signedTwice); err != nil {
		t.Errorf("the original: %v", err)
	}
}

// A token with the groups of a user has many bytes. One that has too many is told so.
func TestVerifyLong(t *testing.T) {
	keys, _ := ParseSecrets(secretText)
	v, _ := NewVerifier(Config{Keys: keys})
	token := func(groups int) string {
		claims := jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour), "groups": slices.Repeat([]string{strings.Repeat("g", 31)}, groups)}
		return signed(t, jwt.SigningMethodHS256, []byte(secretText), nil, claims)
	}
	if _, err := v.Verify(t.Context(), token(300)); err != nil {
		t.Errorf("%d bytes: %v", len(token(300)), err)
	}
	long := token(400)
	if _, err := v.Verify(t.Context(), long); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), fmt.Sprint(len(long))) || !strings.Contains(err.Error(), fmt.Sprint(MaxToken)) {
		t.Errorf("%d bytes: %v, want both sizes", len(long), err)
	}
}

// Duplicates mean one thing to one parser, and another to the next.
func TestVerifyDuplicateClaims(t *testing.T) {
	keys, _ := ParseSecrets(secretText)
	v, _ := NewVerifier(Config{Keys: keys})
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`))
	body := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"sub":"user_1","sub":"user_2","exp":%d}`, in(time.Hour))))
	sig, err := jwt.SigningMethodHS256.Sign(head+"."+body, []byte(secretText))
	if err != nil {
		t.Fatal(err)
	}
	token := head + "." + body + "." + base64.RawURLEncoding.EncodeToString(sig)
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrClaims) {
		t.Errorf("Verify = %v, want %v", err, ErrClaims)
	}
}

// Two keys at once: the old one counts until it is taken out.
func TestRotation(t *testing.T) {
	const old, next = "old:" + secretText, "new:" + "another-secret-of-32-characters--"
	before, _ := ParseSecrets(old)
	during, err := ParseSecrets(next + "," + old)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := ParseSecrets(next)
	token := func(keys []Key) string {
		s, err := NewSigner(keys, Terms{Audience: []string{"a", "b"}})
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := s.Sign("user_1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct {
		name         string
		signed, keys []Key
		want         error
	}{
		{"old before", before, before, nil},
		{"old during", before, during, nil},
		{"new during", during, during, nil},
		{"old after", before, after, ErrSignature},
		{"new after", during, after, nil},
	} {
		v, err := NewVerifier(Config{Keys: tt.keys, Terms: Terms{Audience: []string{"b"}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), token(tt.signed)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// What we sign, another library accepts.
func TestSign(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		file   []byte
		public any
		alg    string
	}{
		{privatePEM(t, w.rsa), w.rsa.Public(), "RS256"},
		{privatePEM(t, w.ec), w.ec.Public(), "ES256"},
		{privatePEM(t, w.ed), w.ed.Public(), "EdDSA"},
		{[]byte(`{"kty":"oct","kid":"k","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`), []byte(secretText), "HS256"},
	} {
		keys, err := ParseKeys(tt.file)
		if err != nil {
			t.Fatal(tt.alg, err)
		}
		s, err := NewSigner(keys, Terms{Audience: []string{"events"}})
		if err != nil {
			t.Fatal(tt.alg, err)
		}
		text, c, err := s.Sign("user_1", time.Minute)
		if err != nil {
			t.Fatal(tt.alg, err)
		}
		var claims jwt.RegisteredClaims
		_, err = jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return tt.public, nil },
			jwt.WithValidMethods([]string{tt.alg}), jwt.WithAudience("events"), jwt.WithExpirationRequired())
		if err != nil || claims.Subject != "user_1" || claims.ID != c.ID || !claims.ExpiresAt.Equal(c.Expires) {
			t.Errorf("%s: %+v, %v, want %+v", tt.alg, claims, err, c)
		}
		v, err := NewVerifier(Config{Keys: keys})
		if err != nil {
			t.Fatal(tt.alg, err)
		}
		if got, err := v.Verify(t.Context(), text); err != nil || !got.Issued.Equal(c.Issued) || got.Pass() != c.Pass() {
			t.Errorf("%s: we read %+v, %v, want %+v", tt.alg, got, err, c)
		}
		for _, bad := range []time.Duration{0, -time.Hour, MaxLifetime + 1} {
			if _, _, err := s.Sign("user_1", bad); err == nil {
				t.Errorf("a lifetime of %v is taken", bad)
			}
		}
	}
	public, _ := ParseKeys(publicPEM(t, w.rsa))
	if _, err := NewSigner(public, Terms{}); !errors.Is(err, ErrNoSigner) {
		t.Errorf("a public key signs: %v", err)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ text, want string }{
		{"", "want PEM"},
		{"hello", "want PEM"},
		{"{", "JWK"},
		{`{"keys":[]}`, "empty"},
		{`{"kty":"oct","k":"c2hvcnQ"}`, "5 bytes"},
		{`{"kty":"oct","alg":"HS512","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`, "HS256"},
		{`{"kty":"oct","use":"enc","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`, "want sig"},
		{`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`, "at most 64"},
		{string(publicPEM(t, small)), "1024 bits"},
		{string(publicPEM(t, p224)), "want P-256, P-384 or P-521"},
		{"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "DH PARAMETERS"},
		{string(publicPEM(t, otherKey(t))) + "rubbish", "want PEM"},
	} {
		if _, err := ParseKeys([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want an error with %q", tt.text, err, tt.want)
		}
	}
	for _, bad := range []string{"", "short", "kid:", "k:" + secretText + ",", "k: " + secretText} {
		if _, err := ParseSecrets(bad); err == nil {
			t.Errorf("ParseSecrets(%q) works", bad)
		}
	}
	twice, _ := ParseSecrets("k:" + secretText + ",k:" + secretText)
	if _, err := NewVerifier(Config{Keys: twice}); err == nil {
		t.Error("two keys with one kid are taken")
	}
}

func TestAPIKey(t *testing.T) {
	k, text, err := NewAPIKey("ci", ScopeWrite)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := APIKeyID(text); !ok || id != k.ID {
		t.Errorf("APIKeyID = %q, %t, want %q", id, ok, k.ID)
	}
	if !k.Is(text) || k.Is(text[:len(text)-1]+"!") || k.Is("") {
		t.Error("Is does not tell the key from others")
	}
	_, other, _ := NewAPIKey("ci", ScopeWrite)
	if k.Is(other) {
		t.Error("another key is taken for it")
	}
	for _, bad := range []string{"", "es_", text + "x", text[1:], strings.Replace(text, "es_", "ex_", 1)} {
		if _, ok := APIKeyID(bad); ok {
			t.Errorf("APIKeyID(%q) is ok", bad)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 101), "a\nb", "\xff"} {
		if _, _, err := NewAPIKey(bad, ScopeRead); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, tt := range []struct {
		has, need Scope
		want      bool
	}{
		{ScopeRead, ScopeRead, true}, {ScopeRead, ScopeWrite, false}, {ScopeWrite, ScopeRead, true},
		{ScopeWrite, ScopeAdmin, false}, {ScopeAdmin, ScopeWrite, true},
		{"", ScopeRead, false}, {"root", ScopeRead, false}, {ScopeAdmin, "root", false},
	} {
		if got := tt.has.Allows(tt.need); got != tt.want {
			t.Errorf("%q allows %q: %t", tt.has, tt.need, got)
		}
	}
	if _, err := ParseScope("root"); err == nil {
		t.Error("the scope root exists")
	}
}

// Whatever comes, it is refused or says what we signed.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	s, err := NewSigner(must(ParseSecrets("s:"+secretText)), Terms{})
	if err != nil {
		f.Fatal(err)
	}
	good, _, _ := s.Sign("user_1", time.Hour)
	f.Add(good)
	f.Add(signed(f, jwt.SigningMethodES256, w.ec, nil, jwt.MapClaims{"sub": "user_1", "exp": in(time.Hour)}))
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := w.v.Verify(t.Context(), token)
		if err == nil && c.Subject != "user_1" {
			t.Errorf("%q: %+v", token, c)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(publicPEM(f, otherKey(f)))
	f.Add([]byte(`{"kty":"oct","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(data)
		if err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
