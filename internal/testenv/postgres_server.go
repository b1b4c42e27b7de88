package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// PostgresServer is a private PostgreSQL that a test may kill and put back to an earlier
// state. Data survives Kill and Restart.
type PostgresServer struct {
	process
	DSN string // of its database; stays the same

	bin, addr string
}

// PrivatePostgres starts a PostgreSQL for this test. Where its programs are not
// installed, as beside containers, the test is skipped.
func PrivatePostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s := &PostgresServer{bin: postgresBin(t)}
	dir, err := os.MkdirTemp("", "es-postgres-") // its user can't get into the test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.process = process{t: t, dir: dir, as: postgresUser(t)}
	if s.as != nil {
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	s.startAnywhere()
	return s
}

// Standby starts a server that follows s, until it is told to be a primary by pg_promote.
func (s *PostgresServer) Standby() *PostgresServer {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.dir, "standby-")
	if err == nil && s.as != nil {
		err = os.Chown(dir, int(s.as.Uid), int(s.as.Gid))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	second := &PostgresServer{bin: s.bin, process: process{t: s.t, dir: dir, as: s.as}}
	host, port, _ := net.SplitHostPort(s.addr)
	s.run("pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", second.data(), "-R", "-c", "fast", "--no-sync")
	second.startAnywhere()
	return second
}

// startAnywhere starts the server at an address of its own, until the test ends.
func (s *PostgresServer) startAnywhere() {
	s.t.Helper()
	var err error
	for range 3 { // somebody may take the address before the server does
		s.addr = Addr(s.t)
		if err = s.start(); err == nil {
			s.t.Cleanup(s.end)
			s.DSN = "postgres://postgres@" + s.addr + "/postgres?sslmode=disable"
			return
		}
	}
	s.t.Fatalf("%v: %s", err, s.logged())
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) start() error {
	_, port, _ := net.SplitHostPort(s.addr)
	err := s.launch(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", port, "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB")
	if err != nil {
		return err
	}
	err = poll(30*time.Second, func() error {
		if !s.running() {
			return nil
		}
		return execSQL("postgres://postgres@"+s.addr+"/postgres?sslmode=disable", "SELECT 1")
	})
	if err == nil && !s.running() {
		err = errors.New("PostgreSQL ended")
	}
	return err
}

// Stop ends the server in order, and all connections with it.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGINT) // at SIGTERM it would wait for its clients to leave
	<-s.done
}

// Restart starts the server again after Kill or Stop.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("%v: %s", err, s.logged())
	}
}

// Backup makes a base backup, and returns what puts it in place of the data folder of the
// server, which must not run then.
func (s *PostgresServer) Backup() (restore func()) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.addr)
	saved := filepath.Join(s.dir, fmt.Sprint("backup", time.Now().UnixNano()))
	s.run("pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", saved, "-c", "fast", "--no-sync")
	return func() {
		s.t.Helper()
		if s.running() {
			s.t.Fatal("a backup is put in place of a server that runs")
		}
		if err := os.RemoveAll(s.data()); err != nil {
			s.t.Fatal(err)
		}
		s.run("cp", "-a", saved, s.data()) // it may be wanted again
	}
}

// run runs one of PostgreSQL's programs, or another one, as its user.
func (s *PostgresServer) run(name string, args ...string) {
	s.t.Helper()
	if path := filepath.Join(s.bin, name); fileExists(path) {
		name = path
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// postgresBin returns where PostgreSQL's programs are: on Debian those of the newest version.
func postgresBin(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append([]string{path}, found...)
	}
	if len(found) == 0 {
		t.Skip("initdb is not installed")
	}
	return filepath.Dir(found[len(found)-1])
}

// postgresUser returns as whom the server runs, nil for as ourselves: it refuses to be root.
func postgresUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
