package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// RedisOptions is how a RedisServer differs from an empty one that keeps
// everything in memory only.
type RedisOptions struct {
	AppendOnly bool   // data survives Kill and Restart
	MaxMemory  string // as in redis.conf, such as "8mb"; no limit if empty
}

// RedisServer is a private redis-server process. Its methods are for the one
// goroutine of its test; they fail the test when they can't do their work.
type RedisServer struct {
	Addr string // stays the same over Restart

	t    testing.TB
	opt  RedisOptions
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Redis starts a redis-server for this test. Like in production, it never evicts.
func Redis(t testing.TB, opts ...RedisOptions) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(t, "redis-server is not installed")
	}
	s := &RedisServer{t: t, dir: t.TempDir()}
	if len(opts) > 0 {
		s.opt = opts[0]
	}
	t.Cleanup(func() {
		if s.running() {
			s.Kill()
		}
	})
	var err error
	for range 5 { // somebody may take the port before Redis does
		s.Addr = Addr(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// Kill ends the server as a crash would.
func (s *RedisServer) Kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.done
}

// Stop lets the server shut down in order.
func (s *RedisServer) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.t.Fatal("redis-server does not stop")
	}
}

// Restart starts the server again, on the same address and with the data that it
// has kept. A server that still runs is stopped first.
func (s *RedisServer) Restart() {
	s.t.Helper()
	if s.running() {
		s.Stop()
	}
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Pause makes the server hang: connections stay open and nothing answers.
func (s *RedisServer) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (s *RedisServer) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *RedisServer) running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (s *RedisServer) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal %v to redis-server: %v", sig, err)
	}
}

// start returns when the server answers.
func (s *RedisServer) start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("redis-server", s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	s.cmd, s.done = cmd, done
	if err := poll(20*time.Second, s.ping); err != nil {
		return fmt.Errorf("start redis-server: %w; its log:\n%s", err, s.log())
	}
	if !s.running() { // then it was somebody else who answered
		return fmt.Errorf("redis-server has ended; its log:\n%s", s.log())
	}
	return nil
}

func (s *RedisServer) args() []string {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--save", "", "--maxmemory-policy", "noeviction"}
	if s.opt.AppendOnly {
		args = append(args, "--appendonly", "yes")
	}
	if s.opt.MaxMemory != "" {
		args = append(args, "--maxmemory", s.opt.MaxMemory)
	}
	return args
}

// ping fails while the server loads its data. One that has ended needs no more
// asking, and start finds that out.
func (s *RedisServer) ping() error {
	if !s.running() {
		return nil
	}
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 100)
	n, err := c.Read(answer)
	if err == nil && !bytes.HasPrefix(answer[:n], []byte("+PONG")) {
		err = errors.New(string(bytes.TrimSpace(answer[:n])))
	}
	return err
}

func (s *RedisServer) log() []byte {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return text
}
