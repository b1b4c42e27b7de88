package ops

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"eventstream/internal/trouble"
)

// certCheck is how often files are looked at, at most: when somebody connects.
const certCheck = time.Second

// Certificate is one in files, read again when they change. While what is there
// can't be used, the one before stays.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	trouble           *trouble.Trouble

	mu      sync.Mutex
	cert    *tls.Certificate
	stamp   string    // of the files that were looked at last
	checked time.Time // when that was
}

// LoadCertificate reads a certificate (with its chain) and its key, both PEM.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("want both a certificate and a key")
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	c.trouble = trouble.New(log, "the TLS certificate in the files can't be used; the one before stays", "the TLS certificate in the files can be used again")
	stamp, err := c.look()
	if err != nil {
		return nil, err
	}
	c.stamp = stamp
	c.cert, err = c.load()
	return c, err
}

// Config returns a server's TLS configuration: TLS 1.2 or newer, HTTP/1.1.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(time.Now()), nil },
	}
}

// Reload looks at the files now.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	c.checked = time.Time{}
	c.mu.Unlock()
	c.current(time.Now())
	return nil // it is logged
}

func (c *Certificate) load() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	return &cert, nil
}

// look returns what tells a file from its successor.
func (c *Certificate) look() (stamp string, err error) {
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return "", fmt.Errorf("TLS file: %w", err)
		}
		stamp += fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

// current returns the certificate, after a look at the files now and then. The
// files are small and local: a client may wait for them.
func (c *Certificate) current(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checked) < certCheck {
		return c.cert
	}
	c.checked = now
	stamp, err := c.look()
	if err == nil && stamp == c.stamp {
		c.trouble.Worked()
		return c.cert
	}
	var cert *tls.Certificate
	if err == nil {
		cert, err = c.load()
	}
	if err != nil { // looked at again: the other file may be about to follow
		c.trouble.Failed(err)
		return c.cert
	}
	c.trouble.Worked()
	c.cert, c.stamp = cert, stamp
	c.log.Info("TLS certificate was read again", "file", c.certFile, "until", cert.Leaf.NotAfter)
	return cert
}
