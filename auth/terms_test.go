package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ec := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p384, p521 := ec(elliptic.P384()), ec(elliptic.P521())
	long, longer := strings.Repeat("l", 48), strings.Repeat("x", 64)
	var keys []Key
	for _, k := range []crypto.Signer{w.rsa, w.ec, p384, p521} {
		keys = append(keys, must(ParseKeys(publicPEM(t, k)))...)
	}
	keys = append(keys, must(ParseSecrets(long+","+longer))...)
	v := must(NewVerifier(Config{Keys: keys}))
	good := jwt.MapClaims{"sub": "user_1", "exp": time.Now().Add(time.Hour).Unix()}
	for _, tt := range []struct {
		method jwt.SigningMethod
		key    any
		want   error
	}{
		{jwt.SigningMethodRS384, w.rsa, nil},
		{jwt.SigningMethodPS384, w.rsa, nil},
		{jwt.SigningMethodPS512, w.rsa, nil},
		{jwt.SigningMethodES384, p384, nil},
		{jwt.SigningMethodES512, p521, nil},
		{jwt.SigningMethodHS384, []byte(long), nil},
		{jwt.SigningMethodHS512, []byte(longer), nil},
		{jwt.SigningMethodHS512, []byte(long), ErrSignature},
		{jwt.SigningMethodHS384, publicPEM(t, p384), ErrSignature}, // a public key is no secret
	} {
		if _, err := v.Verify(t.Context(), signed(t, tt.method, tt.key, nil, good)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.method.Alg(), err, tt.want)
		}
	}
}

// TestAlgorithmOfJWK: a JWK that names its algorithm is for no other one.
func TestAlgorithmOfJWK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw := must(json.Marshal(jose.JSONWebKey{Key: &w.rsa.PublicKey, Algorithm: "PS256"}))
	v := must(NewVerifier(Config{Keys: must(ParseKeys(raw))}))
	good := jwt.MapClaims{"sub": "user_1", "exp": time.Now().Add(time.Hour).Unix()}
	if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodPS256, w.rsa, nil, good)); err != nil {
		t.Errorf("PS256: %v", err)
	}
	if _, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodRS256, w.rsa, nil, good)); !errors.Is(err, ErrSignature) {
		t.Errorf("RS256: %v, want ErrSignature", err)
	}
	if _, err := ParseKeys([]byte(`{"kty":"oct","alg":"RS256","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`)); err == nil {
		t.Error("a secret for RS256 is taken")
	}
}

func TestTerms(t *testing.T) {
	t.Parallel()
	secret := must(ParseSecrets(secretText))
	in := time.Now().Add(time.Hour).Unix()
	all := Terms{Issuers: []string{"https://id.example.org", "https://old.example.org"}, SubjectClaim: "preferred_username", Type: "at+jwt", Scope: "events:read"}
	claims := func(change map[string]any) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "f3a1", "preferred_username": "ada", "iss": "https://old.example.org", "scope": "openid events:read", "exp": in}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	for _, tt := range []struct {
		name   string
		terms  Terms
		typ    string
		change map[string]any
		want   error
	}{
		{"all is well", all, "at+jwt", nil, nil},
		{"typ as a whole media type", all, "application/AT+JWT", nil, nil},
		{"another typ", all, "JWT", nil, ErrType},
		{"another issuer", all, "at+jwt", map[string]any{"iss": "https://evil.example.org"}, ErrIssuer},
		{"no issuer", all, "at+jwt", map[string]any{"iss": nil}, ErrIssuer},
		{"several issuers", all, "at+jwt", map[string]any{"iss": []string{"https://evil.example.org", "https://old.example.org"}}, ErrIssuer},
		{"issuer is a number", all, "at+jwt", map[string]any{"iss": 7}, ErrClaims},
		{"no such claim", all, "at+jwt", map[string]any{"preferred_username": nil}, ErrNoSubject},
		{"the claim is empty", all, "at+jwt", map[string]any{"preferred_username": ""}, ErrNoSubject},
		{"the claim is a number", all, "at+jwt", map[string]any{"preferred_username": 7}, ErrClaims},
		{"scope lacks it", all, "at+jwt", map[string]any{"scope": "openid events:readmore"}, ErrScope},
		{"no scope", all, "at+jwt", map[string]any{"scope": nil}, ErrScope},
		{"scp, a list", all, "at+jwt", map[string]any{"scope": nil, "scp": []string{"openid", "events:read"}}, nil},
		{"nothing is asked for", Terms{}, "x", map[string]any{"iss": 7, "scope": map[string]any{}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := must(NewVerifier(Config{Keys: secret, Terms: tt.terms}))
			c, err := v.Verify(t.Context(), signed(t, jwt.SigningMethodHS256, []byte(secretText), map[string]any{"typ": tt.typ}, claims(tt.change)))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			want := "f3a1"
			if tt.terms.SubjectClaim != "" {
				want = "ada"
			}
			if err == nil && c.Subject != want {
				t.Errorf("subject %q, want %q", c.Subject, want)
			}
		})
	}
	v := must(NewVerifier(Config{Keys: secret, Terms: all}))
	token, _, err := must(NewSigner(secret, all)).Sign("ada", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := v.Verify(t.Context(), token); err != nil || c.Subject != "ada" {
		t.Errorf("a token that we make: %+v, %v", c, err)
	}
}
