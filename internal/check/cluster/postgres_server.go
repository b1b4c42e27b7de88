package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// FindPostgres returns the folder of PostgreSQL's programs: on Debian those of the newest
// version. Beside containers there is none.
func FindPostgres() (bin string, err error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && exists(filepath.Join(filepath.Dir(path), "postgres")) {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL: initdb is not installed")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	return filepath.Dir(newest), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Postgres is a server of our own, over all its runs. What it has committed survives Kill.
type Postgres struct {
	Process
	URL string // of its database; stays the same

	bin, dir string
}

// StartPostgres starts one that is empty. Its data and its log are in a temporary folder,
// until Close: its user can't get into those of others.
func StartPostgres(ctx context.Context, bin string) (*Postgres, error) {
	p, err := newPostgres(bin)
	if err != nil {
		return nil, err
	}
	err = p.run(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	return p, p.begin(ctx, err)
}

// Standby starts a server that follows p, until it is told to be a primary by pg_promote.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	second, err := newPostgres(p.bin)
	if err != nil {
		return nil, err
	}
	return second, second.begin(ctx, p.copyTo(ctx, second.data(), "-R"))
}

func newPostgres(bin string) (*Postgres, error) {
	as, err := postgresUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "eventstream-postgres-")
	if err == nil && as != nil {
		err = os.Chown(dir, int(as.Uid), int(as.Gid))
	}
	if err != nil {
		return nil, fmt.Errorf("folder of PostgreSQL: %w", err)
	}
	p := &Postgres{bin: bin, dir: dir}
	p.Process = Process{Name: "postgres", exe: filepath.Join(bin, "postgres"), log: filepath.Join(dir, "log"), as: as}
	return p, nil
}

// postgresUser returns as whom the server runs, nil for as ourselves: it refuses to be root.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("no PostgreSQL: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

// begin starts the server, once its data are there. If it fails, nothing is left.
func (p *Postgres) begin(ctx context.Context, err error) error {
	if err == nil {
		for range 3 { // somebody may take the address before the server does
			if err = p.startAnywhere(ctx); err == nil {
				return nil
			}
			p.Kill()
		}
	}
	p.Close()
	return fmt.Errorf("start PostgreSQL: %w", err)
}

func (p *Postgres) startAnywhere(ctx context.Context) (err error) {
	if p.Addr, err = FreeAddr(); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(p.Addr)
	p.URL = "postgres://postgres@" + p.Addr + "/postgres?sslmode=disable"
	p.args = []string{
		"-D", p.data(), "-p", port, "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB",
	}
	return p.Start(ctx)
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// Start runs it with what it has kept, and waits until it answers.
func (p *Postgres) Start(ctx context.Context) error {
	if err := p.Process.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return p.await(ctx, func() error {
		conn, err := pgx.Connect(ctx, p.URL)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// Stop ends the server in order, and all connections with it.
func (p *Postgres) Stop() error {
	return p.end(syscall.SIGINT) // at SIGTERM it would wait for its clients to leave
}

// Close ends it, and takes its data away.
func (p *Postgres) Close() error {
	p.Kill()
	return os.RemoveAll(p.dir)
}

// Backup makes a base backup, and returns what puts it in place of the data folder of the
// server, after Kill or Stop. That may be done several times.
func (p *Postgres) Backup(ctx context.Context) (restore func(context.Context) error, err error) {
	saved := filepath.Join(p.dir, fmt.Sprint("backup", time.Now().UnixNano()))
	if err := p.copyTo(ctx, saved); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := os.RemoveAll(p.data()); err != nil {
			return fmt.Errorf("remove the data of PostgreSQL: %w", err)
		}
		return p.run(ctx, "cp", "-a", saved, p.data())
	}, nil
}

func (p *Postgres) copyTo(ctx context.Context, dir string, more ...string) error {
	host, port, _ := net.SplitHostPort(p.Addr)
	return p.run(ctx, "pg_basebackup", append([]string{"-h", host, "-p", port, "-U", "postgres", "-D", dir, "-c", "fast", "--no-sync"}, more...)...)
}

// run runs one of PostgreSQL's programs, or another one, as its user.
func (p *Postgres) run(ctx context.Context, name string, args ...string) error {
	if path := filepath.Join(p.bin, name); exists(path) {
		name = path
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}
