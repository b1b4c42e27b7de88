package cmd_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// A gateway that never read the keys of its issuer can let nobody in: it is not ready, and
// says why. With a key of its own it is degraded.
func TestIssuerNeverReached(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.service("filter")
	issuer := testenv.Addr(t)
	flags := []string{"gateway", "--token-jwks", "http://" + issuer + "/keys"}
	start := func(env ...string) (pages string) {
		pages = testenv.Addr(t)
		p.env = append(p.env[:len(p.env):len(p.env)], env...)
		p.start(append(flags, "--listen", testenv.Addr(t), "--pages", pages)...)
		return pages
	}
	alone := start()
	beside := start("EVENTSTREAM_TOKEN_SECRET=" + strings.Repeat("s", 40))
	says := func(pages, want string) {
		t.Helper()
		testenv.Eventually(t, 60*time.Second, func() error {
			got, err := body("http://" + pages + "/readyz")
			if err != nil || !strings.Contains(got, want) {
				return fmt.Errorf("/readyz: %s, %v; want %s", got, err, want)
			}
			return nil
		})
	}
	const never = `"token_keys":"the JWKS was never read; `
	says(alone, never)
	says(alone, `"status":"unavailable"`)
	says(beside, never)
	says(beside, `"status":"degraded"`)

	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", issuer)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":%q}]}`, base64.RawURLEncoding.EncodeToString(pub))
	})}
	go srv.Serve(ln)
	defer srv.Close()
	says(alone, `"token_keys":"ok"`)
	says(alone, `"status":"ok"`)
	says(beside, `"status":"ok"`)
}

// body gets a page, whatever its status.
func body(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
