package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// raw signs a header and claims as they stand.
func raw(t testing.TB, header, claims string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	sig, err := jwt.SigningMethodHS256.Sign(text, []byte(secretText))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// Two names that differ stay two: what is no Unicode is refused, not replaced.
func TestVerifyRefusesWhatIsNoUnicode(t *testing.T) {
	keys := must(ParseSecrets(secretText))
	v := must(NewVerifier(Config{Keys: keys}))
	const head = `{"alg":"HS256"}`
	rest := fmt.Sprintf(`"exp":%d}`, in(time.Hour))
	for _, tt := range []struct {
		name, header, claims string
		want                 error
	}{
		{"ascii", head, `{"sub":"user_1",` + rest, nil},
		{"a pair", head, `{"sub":"u\ud83d\ude00",` + rest, nil},
		{"U+FFFD itself", head, "{\"sub\":\"u\ufffd\"," + rest, nil},
		{"U+FFFD, escaped", head, `{"sub":"u\ufffd",` + rest, nil},
		{"bytes", head, "{\"sub\":\"u\xff1\"," + rest, ErrClaims},
		{"half a pair", head, `{"sub":"u\ud8001",` + rest, ErrClaims},
		{"the other half", head, `{"sub":"u\udc00",` + rest, ErrClaims},
		{"half a pair in bytes", head, "{\"sub\":\"u\xed\xa0\x80\"," + rest, ErrClaims},
		{"jti", head, `{"sub":"u","jti":"t\ud800",` + rest, ErrClaims},
		{"aud", head, `{"sub":"u","aud":["a","\ud800"],` + rest, ErrClaims},
		{"a claim that nobody reads", head, `{"sub":"u","iss":"\ud800",` + rest, ErrClaims},
		{"a name", head, `{"sub":"u","\ud800":1,` + rest, ErrClaims},
		{"kid", `{"alg":"HS256","kid":"\ud800"}`, `{"sub":"u",` + rest, ErrMalformed},
		{"kid in bytes", "{\"alg\":\"HS256\",\"kid\":\"\xff\"}", `{"sub":"u",` + rest, ErrMalformed},
	} {
		if c, err := v.Verify(t.Context(), raw(t, tt.header, tt.claims)); !errors.Is(err, tt.want) || err == nil != (tt.want == nil) {
			t.Errorf("%s: %+v, %v, want %v", tt.name, c, err, tt.want)
		}
	}
}

func TestParseKeysRefusesWhatIsNoUnicode(t *testing.T) {
	for _, kid := range []string{`\ud800`, "\xff"} {
		if keys, err := ParseKeys([]byte(`{"kty":"oct","kid":"` + kid + `","k":"` + base64.RawURLEncoding.EncodeToString([]byte(secretText)) + `"}`)); err == nil {
			t.Errorf("kid %q: %v", kid, keys[0].ID)
		}
	}
}

// A token has one text: whatever else decodes to the same bytes is refused.
func TestVerifyStrictBase64(t *testing.T) {
	keys := must(ParseSecrets(secretText))
	v := must(NewVerifier(Config{Keys: keys}))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	odd := 0
	for n := range 3 { // whatever the parts' lengths leave unused
		token := raw(t, `{"alg":"HS256"`+strings.Repeat(" ", n)+`}`, fmt.Sprintf(`{"sub":"u%s","exp":%d}`, strings.Repeat("x", n), in(time.Hour)))
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		var others []string
		for i := range len(token) + 1 {
			for _, c := range []string{"\n", "\r", "\r\n", "=", " ", "\t", "\x00"} {
				others = append(others, token[:i]+c+token[i:])
			}
		}
		for i := range token {
			if i+1 < len(token) && token[i+1] != '.' {
				continue
			}
			for _, last := range letters {
				others = append(others, token[:i]+string(last)+token[i+1:])
			}
		}
		others = append(others, strings.ReplaceAll(token, ".", "=."), token+"=", token+"==", strings.NewReplacer("-", "+", "_", "/").Replace(token)+"+")
		for _, other := range others {
			if other == token {
				continue
			}
			odd++
			if _, err := v.Verify(t.Context(), other); err == nil {
				t.Errorf("%q counts as well as %q", other, token)
			}
		}
	}
	if odd < 1000 {
		t.Errorf("%d texts were tried", odd)
	}
}
