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
	return built(t, buildBinary)
}

// Checker returns the path of eventstream-check, built like the program.
func Checker(t testing.TB) string {
	t.Helper()
	return built(t, buildChecker)
}

var (
	buildBinary  = sync.OnceValues(func() (string, error) { return build("eventstream", ".") })
	buildChecker = sync.OnceValues(func() (string, error) { return build("checker", "./cmd/eventstream-check") })
)

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build keeps a program in .services/bin, where the next test process finds it up to
// date and go build has nothing to do.
func build(name, pkg string) (string, error) {
	dir, err := findRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, ".services", "bin", name)
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
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

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
