package ops

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// ClientTLS configures how we verify a server, and authenticate to it. The zero value
// uses the system's CAs and no certificate. Files are reread when they change.
type ClientTLS struct {
	CA         string // file with the server's CAs, PEM; the system's if empty
	Cert, Key  string // files with our certificate and its key, PEM; none if empty
	ServerName string // expected in the server's certificate; the dialled host if empty
}

// Open reads the files. next returns the configuration for the next connection, and
// each of reloads rereads files at once. server is for the log, as in "Kafka".
func (c ClientTLS) Open(server string, log *slog.Logger) (next func() *tls.Config, reloads []func() error, err error) {
	base := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	roots := func() *x509.CertPool { return nil } // the system's CAs
	if c.CA != "" {
		ca, err := Watch("the CA of "+server, []string{c.CA}, func() (*x509.CertPool, error) { return ReadCA(c.CA) }, log)
		if err != nil {
			return nil, nil, err
		}
		roots, reloads = ca.Current, append(reloads, ca.Reload)
	}
	if c.Cert != "" || c.Key != "" {
		cert, err := LoadCertificate(c.Cert, c.Key, log)
		if err != nil {
			return nil, nil, err
		}
		base.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert.Current(), nil }
		reloads = append(reloads, cert.Reload)
	}
	return func() *tls.Config {
		next := base.Clone()
		next.RootCAs = roots()
		return next
	}, reloads, nil
}

// ReadCA reads the CAs in a PEM file.
func ReadCA(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: want certificates, PEM", file)
	}
	return pool, nil
}
