package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Redis is a redis-server of our own, over all its runs. It keeps an append-only
// file that is synced every second.
type Redis struct {
	Process

	dir string
	bus string // address for the other nodes of a cluster; "" if there are none
}

// newRedis returns one that is empty.
func newRedis(exe, dir string) (*Redis, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of redis: %w", err)
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	r := &Redis{dir: dir}
	r.Process = Process{
		Name: "redis-server", Addr: addr, exe: exe, log: filepath.Join(dir, "log"),
		args: []string{
			"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
			"--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "everysec",
			"--auto-aof-rewrite-percentage", "0", // so that a copy of the files is whole
		},
	}
	return r, nil
}

// Start runs it with what it has kept, and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	if err := r.Process.Start(); err != nil {
		return err
	}
	return r.await(ctx, func() error { return r.ask("PING", "+PONG") })
}

// ask sends one command and checks the answer.
func (r *Redis) ask(command, want string) error {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != want {
		err = errors.New(strings.TrimSpace(answer))
	}
	return err
}

// Flush has it forget everything.
func (r *Redis) Flush() error { return r.ask("FLUSHALL", "+OK") }

// Fill has it refuse what needs memory, until Writable.
func (r *Redis) Fill() error { return r.ask("CONFIG SET maxmemory 1", "+OK") }

// Demote has it refuse writes, as a replica whose primary is away, until Writable.
// A node of a cluster can't be made a replica: it misses its own.
func (r *Redis) Demote() error {
	if r.bus != "" {
		return r.ask("CONFIG SET min-replicas-to-write 1", "+OK")
	}
	return r.ask("REPLICAOF 127.0.0.1 1", "+OK")
}

// Writable has it take writes.
func (r *Redis) Writable() error {
	heal := "REPLICAOF NO ONE"
	if r.bus != "" {
		heal = "CONFIG SET min-replicas-to-write 0"
	}
	if err := r.ask(heal, "+OK"); err != nil {
		return err
	}
	return r.ask("CONFIG SET maxmemory 0", "+OK")
}

func (r *Redis) data() string { return filepath.Join(r.dir, "appendonlydir") }
func (r *Redis) copy() string { return filepath.Join(r.dir, "copy") }

// Save puts a copy of what it holds now aside.
func (r *Redis) Save() error {
	if err := os.RemoveAll(r.copy()); err != nil {
		return fmt.Errorf("remove the last copy of redis: %w", err)
	}
	if err := os.CopyFS(r.copy(), os.DirFS(r.data())); err != nil {
		return fmt.Errorf("copy redis: %w", err)
	}
	return nil
}

// Rollback, after Kill, has it start with what it held at the time of Save.
func (r *Redis) Rollback() error {
	if err := os.RemoveAll(r.data()); err != nil {
		return fmt.Errorf("remove the data of redis: %w", err)
	}
	if err := os.Rename(r.copy(), r.data()); err != nil {
		return fmt.Errorf("roll redis back: %w", err)
	}
	return nil
}
