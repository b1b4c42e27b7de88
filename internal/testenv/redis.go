package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RedisOptions is how a RedisServer differs from an empty one that keeps
// everything in memory only.
type RedisOptions struct {
	AppendOnly bool   // data survives Kill and Restart
	MaxMemory  string // as in redis.conf, such as "8mb"; no limit if empty
	TLS        string // folder with cert.pem and key.pem: the server listens at SecureAddr, too, and wants a certificate that this one has signed

	cluster  bool
	sentinel string // path of its configuration
}

// RedisServer is a private redis-server process. Its methods are for the one
// goroutine of its test; they fail the test when they can't do their work.
type RedisServer struct {
	Addr       string // stays the same over Restart
	SecureAddr string // the same, of RedisOptions.TLS

	process
	opt RedisOptions
	bus string // address for the other nodes of a cluster
}

// Redis starts a redis-server for this test. Like in production, it never evicts.
func Redis(t testing.TB, opts ...RedisOptions) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(t, "redis-server is not installed")
	}
	s := &RedisServer{process: process{t: t, dir: t.TempDir()}}
	if len(opts) > 0 {
		s.opt = opts[0]
	}
	t.Cleanup(s.end)
	var err error
	for range 5 { // somebody may take the port before Redis does
		s.Addr, s.bus, s.SecureAddr = Addr(t), Addr(t), Addr(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
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

// start returns when the server answers.
func (s *RedisServer) start() error {
	if err := s.launch("redis-server", s.args()...); err != nil {
		return err
	}
	if err := poll(20*time.Second, s.ping); err != nil {
		return fmt.Errorf("start redis-server: %w; its log:\n%s", err, s.logged())
	}
	if !s.running() { // then it was somebody else who answered
		return fmt.Errorf("redis-server has ended; its log:\n%s", s.logged())
	}
	return nil
}

func (s *RedisServer) args() []string {
	_, port, _ := net.SplitHostPort(s.Addr)
	if s.opt.sentinel != "" {
		return []string{s.opt.sentinel, "--sentinel", "--bind", "127.0.0.1", "--port", port}
	}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir,
		"--save", "", "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"}
	if s.opt.cluster {
		_, bus, _ := net.SplitHostPort(s.bus)
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "1000")
	}
	if s.opt.TLS != "" {
		_, secure, _ := net.SplitHostPort(s.SecureAddr)
		cert, key := filepath.Join(s.opt.TLS, "cert.pem"), filepath.Join(s.opt.TLS, "key.pem")
		args = append(args, "--tls-port", secure, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	}
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
	_, err := s.Ask("PING")
	return err
}

// Do sends a command and returns its answer, of an array one element a line.
func (s *RedisServer) Do(command ...string) string {
	s.t.Helper()
	answer, err := s.Ask(command...)
	if err != nil {
		s.t.Fatalf("redis %s: %v", strings.Join(command, " "), err)
	}
	return answer
}

// Ask is Do for a server that may be down.
func (s *RedisServer) Ask(command ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(word), word)
	}
	return readReply(bufio.NewReader(c))
}

// readReply reads an answer, of an array one element a line.
func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	n, _ := strconv.Atoi(rest)
	switch kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+len("\r\n"))
		_, err = io.ReadFull(in, text)
		return string(text[:n]), err
	case '*':
		var all []string
		for range n {
			one, err := readReply(in)
			if err != nil {
				return "", err
			}
			all = append(all, one)
		}
		return strings.Join(all, "\n"), nil
	}
	return rest, nil
}
