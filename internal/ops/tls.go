package ops

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
)

// Certificate is a certificate in files, reread when they change.
type Certificate struct{ *Watched[*tls.Certificate] }

// LoadCertificate reads a certificate (with its chain) and its key, both PEM.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("want both a certificate and a key")
	}
	w, err := Watch("the TLS certificate", []string{certFile, keyFile}, func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("TLS certificate %s with key %s: %w", certFile, keyFile, err)
		}
		return &cert, nil
	}, log)
	if err != nil {
		return nil, err
	}
	return &Certificate{w}, nil
}

// Config returns a server's TLS configuration: TLS 1.2 or newer, HTTP/1.1.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Current(), nil },
	}
}
