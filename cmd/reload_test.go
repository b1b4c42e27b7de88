package cmd_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestHangup has services read their files again at SIGHUP. None ends, and open
// connections stay. Files that are no good change nothing.
func TestHangup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir, 1)
	keys := t.TempDir()
	_, secret := testenv.Certificate(t, keys, 1) // a private key signs tokens, too
	token := func(p *pipeline) string {
		out, _ := p.output(0, "token", "--token-keys", secret, "ada")
		return strings.TrimSpace(out)
	}
	p := newPipeline(t)
	p.env = append(p.env, "SSL_CERT_FILE="+cert)
	api, filter := p.service("api"), p.service("filter")
	addr, pages := testenv.Addr(t), testenv.Addr(t)
	gateway := p.start("gateway", "--listen", addr, "--pages", pages, "--tls-cert", cert, "--tls-key", key, "--token-keys", secret)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	testenv.Eventually(t, 60*time.Second, func() error { return getBy(trusting, "https://"+pages+"/readyz") })
	old := token(p)
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	listen := p.start("listen", "--url", "wss://"+addr, "--token-file", tokenFile, "ada")
	listen.says("connected", 20*time.Second)

	testenv.Certificate(t, keys, 2)
	testenv.Certificate(t, dir, 2)
	for _, pr := range []*process{api, filter, gateway} {
		pr.signal(syscall.SIGHUP)
		pr.says("files were read again", 20*time.Second)
	}
	nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got := nc.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 2 {
		t.Errorf("certificate %d, want the new one", got)
	}
	status := func(token string) int {
		req, err := http.NewRequest("GET", "https://"+addr+"/sse?token="+token, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := trusting.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	fresh := token(p)
	if a, b := status(old), status(fresh); a != http.StatusUnauthorized || b != http.StatusOK {
		t.Errorf("old token: %d, new one: %d; want 401 and 200", a, b)
	}

	if err := os.WriteFile(secret, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway.signal(syscall.SIGHUP)
	gateway.says("can't be read again", 20*time.Second)
	if b := status(fresh); b != http.StatusOK {
		t.Errorf("after a bad file: %d, want 200", b)
	}
	select {
	case <-listen.done:
		t.Error("the client's connection did not stay")
	default:
	}
	for _, pr := range []*process{api, filter, gateway} {
		if code := pr.stop(); code != 0 {
			t.Errorf("%s: exit code %d, want 0", pr.name, code)
		}
	}
}
