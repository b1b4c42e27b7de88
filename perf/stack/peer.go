package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"eventstream/topic"
)

// Recipients are those that a peer sends an event to.
type Recipients string

const (
	All     Recipients = "all"
	Each    Recipients = "each"    // the subscriber that is its key
	Matched Recipients = "matched" // those whose tag filters match: see perf/peers/sockets
)

// Peer starts a gateway made with another library: perf/peers/sockets. exe is that
// program; to says whom an event is for.
func Peer(ctx context.Context, cfg Config, exe, kind string, to Recipients) (*Stack, error) {
	c, err := start(ctx, cfg, 0, 0)
	if err != nil {
		return nil, err
	}
	s := &Stack{Name: kind, addFilters: func(context.Context, []Filter) error { return nil }}
	s.Brokers, s.Topic = c.Kafka()
	var running *exec.Cmd
	s.close = func() error {
		if running != nil {
			running.Process.Kill()
			running.Wait()
		}
		return c.Close()
	}
	if _, err := topic.Ensure(ctx, topic.Config{Brokers: s.Brokers, Topic: s.Topic, Partitions: 6}, slog.Default()); err != nil {
		return nil, errors.Join(fmt.Errorf("make the topic: %w", err), s.close())
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	addr := "127.0.0.1:" + port
	log, err := os.Create(filepath.Join(cfg.Dir, kind+".log"))
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	defer log.Close()
	cmd := exec.Command(exe)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PEER_KIND="+kind, "PEER_LISTEN="+addr, "PEER_KAFKA="+strings.Join(s.Brokers, ","),
		"PEER_TOPIC="+s.Topic, "PEER_REDIS="+c.Redis()[0].Addr, "PEER_TO="+string(to))
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the peer: %w", err), s.close())
	}
	running = cmd
	s.WS, s.Gateways = "ws://"+addr+"/ws", []string{addr}
	s.Parts = []Part{{Name: "gateway (" + kind + ")", PID: cmd.Process.Pid}, {Name: "redis", PID: c.Redis()[0].PID()}}
	if err := until(ctx, func() error { return answers(ctx, "http://"+addr+"/readyz") }); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}
