package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// Binary returns the path of the eventstream program, built from the sources as
// they are now, and with the race detector if the test has it.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildBinary keeps the program in .services/bin, where the next test process
// finds it up to date and go build has nothing to do.
var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := findRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, ".services", "bin", "eventstream")
	args := []string{"build", "-o", path}
	if Race {
		path += "-race"
		args = []string{"build", "-race", "-o", path}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// lockFile keeps other test processes from running a program that is half written.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f.Close, nil
}
