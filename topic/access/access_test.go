package access

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"eventstream/internal/testenv"
	"eventstream/topic"
)

const patience = time.Minute

// TestMain lets more tests run at once than there are CPUs: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "20")
	goleak.VerifyTestMain(m)
}

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
			if got := refused(t, tt.addr, tt.cfg, tt.final); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// refused returns what is said of why we are not let in, nothing if we are: somebody
// without rights asks for a topic. If final is set, it is to be tried once.
func refused(t *testing.T, addr string, cfg Config, final bool) string {
	t.Helper()
	a, _, err := Open(cfg, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return refusedWith(t, addr, a, final)
}

func refusedWith(t *testing.T, addr string, a topic.Access, final bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	said := &lines{enough: func(line string) {
		if strings.Contains(line, "UNKNOWN_TOPIC") || !final && strings.Contains(line, "level=ERROR") {
			cancel()
		}
	}}
	_, err := topic.Ensure(ctx, topic.Config{Brokers: []string{addr}, Topic: "none", Access: a, NoCreate: true}, slog.New(slog.NewTextHandler(said, nil)))
	if answer := fmt.Sprint(err); strings.Contains(answer, "UNKNOWN_TOPIC") || strings.Contains(answer, "TOPIC_AUTHORIZATION_FAILED") {
		return ""
	}
	if final && !errors.Is(err, topic.ErrRefused) {
		t.Errorf("got %v, want %v", err, topic.ErrRefused)
	}
	if text := said.String(); strings.Contains(text, `level=ERROR msg="Kafka can't be used; retrying"`) {
		return text
	}
	return "not said as an error: " + said.String()
}

// lines are what was logged.
type lines struct {
	enough func(line string) // is called with each; may be nil

	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.enough != nil {
		l.enough(string(b))
	}
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
	try := func() string { return refusedWith(t, addr, a, false) }
	if got := try(); got != "" {
		t.Fatal(got)
	}
	certFile := renew(22)
	if got := try(); !strings.Contains(got, "we do not trust the broker's certificate") {
		t.Errorf("got %q, want that the certificate is not trusted", got)
	}
	trust(certFile)
	for _, read := range files {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
	if got := try(); got != "" {
		t.Errorf("with the new CA: %s", got)
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
