package cmd_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestGatewayTLS has a gateway speak TLS, with a certificate that is renewed
// while a client is connected.
func TestGatewayTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := testenv.Certificate(t, dir, 1)
	p := newPipeline(t)
	p.env = append(p.env, "SSL_CERT_FILE="+cert)
	p.service("api")
	p.service("filter")
	p.addFilter(everything("ada"))
	addr, pages := testenv.Addr(t), testenv.Addr(t)
	gateway := p.start("gateway", "--listen", addr, "--pages", pages, "--tls-cert", cert, "--tls-key", key)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	testenv.Eventually(t, 60*time.Second, func() error { return getBy(trusting, "https://"+pages+"/readyz") })

	prod := p.producer()
	send := func(name string) {
		p.send(prod, parseSource(t, fmt.Appendf(nil, `{"event_type":"purchase","event_id":"%s","user_id":"u"}`, name)))
	}
	listen := p.start("listen", "--url", "wss://"+addr, "ada")
	listen.says("connected", 20*time.Second)
	send("one")
	listen.says(`"event_id":"one"`, 20*time.Second)

	testenv.Certificate(t, dir, 2)
	testenv.Eventually(t, 20*time.Second, func() error {
		nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer nc.Close()
		if got := nc.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 2 {
			return fmt.Errorf("certificate %d", got)
		}
		return nil
	})
	send("two")
	listen.says(`"event_id":"two"`, 20*time.Second)

	second := p.start("listen", "--url", "wss://"+addr, "ada")
	second.says("connected", 20*time.Second)
	if code := gateway.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	listen.says("is stopping", 20*time.Second)
}
