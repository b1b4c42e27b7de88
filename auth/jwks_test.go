package auth

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"eventstream/internal/bubble"
)

// issuer is an HTTP server in memory.
type issuer struct {
	mu      sync.Mutex
	body    string
	status  int
	fetches int
}

func (i *issuer) set(status int, keys ...map[string]any) {
	body, _ := json.Marshal(map[string]any{"keys": keys})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status, i.body = status, string(body)
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	if i.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: i.status, Body: io.NopCloser(strings.NewReader(i.body)), Request: r, Header: http.Header{}}, nil
}

func withKid(k map[string]any, kid string) map[string]any {
	k["kid"] = kid
	return k
}

func newJWKS(t *testing.T, i *issuer) (*JWKS, *Verifier) {
	t.Helper()
	j, err := NewJWKS(JWKSConfig{URL: "https://issuer.example/keys"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	j.client.Transport = i
	v, err := NewVerifier(Config{JWKS: j})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); j.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return j, v
}

func TestJWKS(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		key := otherKey(t)
		token := func(kid string) string {
			return signed(t, jwt.SigningMethodEdDSA, key, map[string]any{"kid": kid}, jwt.MapClaims{"sub": "user_1", "exp": in(24 * time.Hour)})
		}
		i := &issuer{}
		j, v := newJWKS(t, i)
		expect := func(kid string, want error) {
			t.Helper()
			if _, err := v.Verify(t.Context(), token(kid)); !errors.Is(err, want) {
				t.Fatalf("kid %s: %v, want %v", kid, err, want)
			}
		}
		check := func(want error) {
			t.Helper()
			if err := j.Check(); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("Check = %v, want %v", err, want)
			}
		}
		expect("a", ErrNoKeysYet) // the issuer is down
		check(ErrNoKeysYet)
		if err := j.Check(); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("Check = %v, which does not say why", err)
		}
		i.set(200, withKid(jwkOf(t, key), "a"))
		time.Sleep(time.Minute)
		expect("a", nil)
		check(nil)

		// A new key is known as soon as a token names it.
		i.set(200, withKid(jwkOf(t, key), "a"), withKid(jwkOf(t, key), "b"))
		expect("b", nil)

		// Unknown keys can't make us fetch more often.
		time.Sleep(time.Minute)
		before := i.count()
		for range 100 {
			expect("forged", ErrSignature)
		}
		if n := i.count() - before; n > 2 {
			t.Errorf("100 unknown keys made %d fetches", n)
		}

		// The issuer goes down: what was known stays.
		i.set(500)
		time.Sleep(10 * time.Minute)
		check(nil)
		time.Sleep(50 * time.Minute)
		expect("b", nil)
		check(ErrOldKeys)
		if age := j.Age(); age < time.Hour {
			t.Errorf("age %v, want an hour", age)
		}

		// A key that is taken back no longer counts after the next refresh.
		i.set(200, withKid(jwkOf(t, key), "b"))
		time.Sleep(6 * time.Minute)
		expect("b", nil)
		check(nil)
		expect("a", ErrSignature)
	})
}

// A set may hold what is not for us; secrets have no place in it.
func TestParseJWKS(t *testing.T) {
	good, _ := json.Marshal(jwkOf(t, otherKey(t)))
	for _, tt := range []struct {
		body string
		keys int
		want string
	}{
		{`{"keys":[` + string(good) + `,{"kty":"oct","k":"` + strings.Repeat("A", 64) + `"},{"kty":"new"},{"use":"enc"}]}`, 1, ""},
		{`{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 64) + `"}]}`, 0, "no key in it"},
		{`{}`, 0, "no key in it"},
		{`<html>`, 0, "not a JWK set"},
		{`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`, 0, "65 keys"},
		{strings.Repeat(" ", maxJWKS+1), 0, "more than"},
	} {
		keys, err := parseJWKS([]byte(tt.body))
		if len(keys) != tt.keys || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %d keys, %v, want %d, %q", tt.body, len(keys), err, tt.keys, tt.want)
		}
	}
}

func TestJWKSURL(t *testing.T) {
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"https://issuer.example/keys", true},
		{"http://127.0.0.1:8080/keys", true},
		{"http://localhost/keys", true},
		{"http://issuer.example/keys", false},
		{"file:///etc/passwd", false},
		{"https://", false},
		{"", false},
	} {
		if _, err := NewJWKS(JWKSConfig{URL: tt.url}, slog.New(slog.DiscardHandler)); (err == nil) != tt.ok {
			t.Errorf("%q: %v, want ok %t", tt.url, err, tt.ok)
		}
	}
}

// TestJWKSByAnotherCA: the URL's certificate is by the CA that is given, and by none else.
func TestJWKSByAnotherCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	set := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &w.rsa.PublicKey, KeyID: "a"}}}))
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(set) }))
	defer server.Close()
	ours := x509.NewCertPool()
	ours.AddCert(server.Certificate())
	for _, tt := range []struct {
		ca   *x509.CertPool
		good bool
	}{{ours, true}, {x509.NewCertPool(), false}, {nil, false}} {
		j := must(NewJWKS(JWKSConfig{URL: server.URL, CA: tt.ca}, slog.New(slog.DiscardHandler)))
		keys, err := j.read(t.Context())
		if good := err == nil && len(keys) == 1; good != tt.good {
			t.Errorf("%d keys, %v; want them: %t", len(keys), err, tt.good)
		}
	}
}
