package testenv

import (
	"path/filepath"
	"testing"

	"eventstream/internal/check/cluster"
)

// Certificate writes a certificate for 127.0.0.1, with the given serial number, and its key.
func Certificate(t testing.TB, dir string, serial int64) (certFile, keyFile string) {
	t.Helper()
	if err := cluster.WriteCertificate(dir, serial); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}
