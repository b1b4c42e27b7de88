package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Redis is a redis-server of our own, over all its runs. It keeps an append-only
// file that is synced every second.
type Redis struct {
	Addr string

	exe  string
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// startRedis starts one that is empty.
func startRedis(ctx context.Context, exe, dir string) (*Redis, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of redis: %w", err)
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	r := &Redis{Addr: addr, exe: exe, dir: dir}
	return r, r.Start(ctx)
}

// Start runs it with what it has kept, and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of redis: %w", err)
	}
	defer log.Close()
	_, port, _ := net.SplitHostPort(r.Addr)
	cmd := exec.Command(r.exe, "--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--save", "",
		"--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "everysec",
		"--auto-aof-rewrite-percentage", "0") // so that a copy of the files is whole
	cmd.Stdout, cmd.Stderr = log, log
	if r.cmd, r.done, err = start(cmd); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	return r.await(ctx)
}

func (r *Redis) await(ctx context.Context) error {
	for {
		err := r.ask("PING", "+PONG")
		if err == nil {
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("redis-server ended by itself; its log ends with:\n%s", tail(filepath.Join(r.dir, "log")))
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
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

// Kill ends it as a crash would.
func (r *Redis) Kill() {
	if r.cmd == nil {
		return
	}
	r.cmd.Process.Kill()
	<-r.done
}

// Pause makes it hang, until Resume.
func (r *Redis) Pause() error { return r.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (r *Redis) Resume() error { return r.cmd.Process.Signal(syscall.SIGCONT) }

// Flush has it forget everything.
func (r *Redis) Flush() error { return r.ask("FLUSHALL", "+OK") }

// PID returns the id of the process.
func (r *Redis) PID() int { return r.cmd.Process.Pid }

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
