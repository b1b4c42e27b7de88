package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/testenv"
)

func TestServeTLS(t *testing.T) {
	certFile, keyFile := testenv.Certificate(t, t.TempDir(), 1)
	cert, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- NewServers(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).Serve(ctx, "admin", tls.NewListener(ln, cert.Config()), Admin(), AdminLimits)
	}()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Current().Leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + ln.Addr().String() + "/debug/pprof/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("status %d, TLS %x", resp.StatusCode, resp.TLS.Version)
	}
	if _, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := testenv.Certificate(t, dir, 1)
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func(after time.Duration, want int64) {
		t.Helper()
		if got := c.current(time.Now().Add(after)).Leaf.SerialNumber.Int64(); got != want {
			t.Errorf("after %v: certificate %d, want %d", after, got, want)
		}
	}
	serial(0, 1)
	testenv.Certificate(t, dir, 22)
	serial(2*time.Second, 22)
	if err := os.WriteFile(keyFile, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	serial(4*time.Second, 22) // the one before stays
	testenv.Certificate(t, dir, 333)
	serial(6*time.Second, 333)
	os.Remove(certFile)
	serial(8*time.Second, 333)

	if _, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing file is taken")
	}
	if _, err := LoadCertificate("", keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a key without a certificate is taken")
	}
}
