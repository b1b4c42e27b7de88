// Package testenv gives tests real servers: a Redis of their own that they may
// kill, and a database or topic of their own on the PostgreSQL and Kafka that
// `make services` started. Cleanup of the test takes everything away again.
//
// A test whose server is missing is skipped. With EVENTSTREAM_TEST_SERVICES=required,
// which `make test` sets, it fails instead, so that CI never passes by skipping.
package testenv

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/internal/check/cluster"
)

// Eventually calls check until it returns nil. After timeout it fails the test
// with check's last error.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	if err := poll(timeout, check); err != nil {
		t.Fatalf("still after %v: %v", timeout, err)
	}
}

// Data returns the path of a file of real events, and whether it is there: it
// lies beside the repository, or where EVENTSTREAM_TEST_DATA says. A fresh clone
// has none, so a test that needs it must be able to go without.
func Data(t testing.TB) (path string, ok bool) {
	t.Helper()
	path = os.Getenv("EVENTSTREAM_TEST_DATA")
	if path == "" {
		path = filepath.Join(root(t), "..", "shared", "data", "retail-2010-12.ndjson.gz")
	}
	_, err := os.Stat(path)
	return path, err == nil
}

// Addr returns a loopback address on which nobody listens. It is not reserved:
// a server that finds it taken should ask for another.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := cluster.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// missing ends a test that can't run without some server.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...) + `: run "make services"`
	if os.Getenv("EVENTSTREAM_TEST_SERVICES") == "required" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// shared returns a setting of the environment, or else of the servers that
// `make services` started.
func shared(t testing.TB, key string) string {
	t.Helper()
	if v := os.Getenv(key); v != "" {
		return v
	}
	file := filepath.Join(root(t), ".services", "env")
	text, err := os.ReadFile(file)
	if err != nil {
		missing(t, "%s is not set, and there is no .services/env", key)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return v
		}
	}
	missing(t, "%s is neither set nor in .services/env", key)
	return ""
}

// demandListener ends a test whose server has been stopped since.
func demandListener(t testing.TB, name, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		missing(t, "%s does not answer: %v", name, err)
	}
	c.Close()
}

func root(t testing.TB) string {
	t.Helper()
	dir, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// findRoot looks for the module's folder above that of the package under test.
var findRoot = sync.OnceValues(func() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module eventstream\n") {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no module eventstream above %s", start)
})

// poll calls check until it returns nil, and returns its last error after timeout.
func poll(timeout time.Duration, check func() error) error {
	for end := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
