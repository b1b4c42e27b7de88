package access

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"eventstream/internal/testenv"
	"eventstream/topic"
)

const patience = time.Minute

// secured starts a broker that wants TLS, with the certificate that cert returns, and SASL.
func secured(t *testing.T, cert func() *tls.Certificate) (addr string) {
	t.Helper()
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "right"),
		kfake.Superuser("SCRAM-SHA-256", "s", "right"), kfake.Superuser("SCRAM-SHA-512", "t", "right"),
	}
	if cert != nil {
		opts = append(opts, kfake.TLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert(), nil }}))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

func load(t *testing.T, certFile, keyFile string) *tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// Who is let in, and what is said to who is not. That a password is wrong is for a real Kafka:
// kfake closes the connection without a word.
func TestAccess(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testenv.Certificate(t, t.TempDir(), 1)
	otherCA, _ := testenv.Certificate(t, t.TempDir(), 2)
	cert := load(t, certFile, keyFile)
	encrypted, plain := secured(t, func() *tls.Certificate { return cert }), secured(t, nil)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		addr  string
		cfg   Config
		want  string // of the error; none if empty
		final bool   // it is not tried again
	}{
		"plain":         {"", Config{Mechanism: Plain, User: "p", Password: "right"}, "", true},
		"scram 256":     {"", Config{Mechanism: Scram256, User: "s", Password: "right"}, "", true},
		"scram 512":     {"", Config{Mechanism: Scram512, User: "t", PasswordFile: file}, "", true},
		"not encrypted": {plain, Config{Mechanism: Scram512, User: "t", Password: "right"}, "", true},
		"other name":    {"", Config{Mechanism: Plain, User: "p", Password: "right", ServerName: "kafka.example.org"}, "we do not trust the broker's certificate", false},
		"unknown CA":    {"", Config{Mechanism: Plain, User: "p", Password: "right", CA: otherCA}, "we do not trust the broker's certificate", false},
		"mechanism":     {plain, Config{Mechanism: OAuthBearer, OAuth: OAuth{TokenFile: file}}, "(SASL OAUTHBEARER, in plain text): the broker does not offer this mechanism", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.addr == "" {
				tt.addr, tt.cfg.TLS, tt.cfg.CA = encrypted, true, cmp.Or(tt.cfg.CA, certFile)
			}
			var said lines
			err := reach(t, tt.addr, tt.cfg, &said, tt.final)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, topic.ErrRefused)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.want != "" && !strings.Contains(said.String(), `level=ERROR msg="Kafka can't be used; retrying"`) {
				t.Errorf("it is not said: %s", said.String())
			}
		})
	}
}

// reach sets a topic up, and returns why that is impossible: at once if that is final.
func reach(t *testing.T, addr string, cfg Config, said *lines, final bool) error {
	t.Helper()
	log := slog.New(slog.NewTextHandler(said, nil))
	a, _, err := Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	limit := patience
	if !final {
		limit = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err = topic.Ensure(ctx, topic.Config{Brokers: []string{addr}, Partitions: 1, Access: a}, log)
	if final && ctx.Err() != nil {
		t.Errorf("it is tried again and again: %v", err)
	}
	return err
}

// lines are what was logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// The brokers get a certificate of another CA while we run. What is asked then says that it
// isn't trusted, and goes on once our file has that CA.
func TestCAIsReadAgain(t *testing.T) {
	t.Parallel()
	dir, trusted := t.TempDir(), filepath.Join(t.TempDir(), "ca.pem")
	var cert atomic.Pointer[tls.Certificate]
	renew := func(serial int64) (file string) {
		certFile, keyFile := testenv.Certificate(t, dir, serial)
		cert.Store(load(t, certFile, keyFile))
		return certFile
	}
	trust := func(file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(trusted, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(renew(1))
	addr := secured(t, cert.Load)
	a, files, err := Open(Config{TLS: true, CA: trusted, Mechanism: Plain, User: "p", Password: "right"}, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _, err := topic.Ends(ctx, topic.Config{Brokers: []string{addr}, Topic: "none", Access: a}, testenv.Log(t))
		if err != nil && strings.Contains(err.Error(), "UNKNOWN_TOPIC") {
			return nil // it was let in, and asked
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	certFile := renew(22)
	if err := ask(); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("got %v, want that the certificate is not trusted", err)
	}
	trust(certFile)
	for _, read := range files {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
	if err := ask(); err != nil {
		t.Errorf("with the new CA: %v", err)
	}
}

// What can't work is refused before anything is tried.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := testenv.Certificate(t, dir, 1)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{
		{TLS: true, CA: filepath.Join(dir, "none")},
		{TLS: true, CA: keyFile},
		{TLS: true, Cert: certFile},
		{TLS: true, Cert: keyFile, Key: certFile},
		{Mechanism: "gssapi"},
		{Mechanism: Plain, User: "p"},
		{Mechanism: Scram256, User: "p", PasswordFile: empty},
		{Mechanism: Scram512, User: "p", PasswordFile: filepath.Join(dir, "none")},
		{Mechanism: OAuthBearer, User: "p", Password: "x", OAuth: OAuth{TokenURL: "https://x/", CA: empty}},
		{Mechanism: OAuthBearer, User: "p", OAuth: OAuth{TokenURL: "https://x/"}},
	} {
		if _, _, err := Open(cfg, testenv.Log(t)); err == nil {
			t.Errorf("%+v is taken", cfg)
		} else {
			t.Log(err)
		}
	}
}
