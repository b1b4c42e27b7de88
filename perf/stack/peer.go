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

// Peer starts a gateway made with another library: perf/peers/sockets. exe is that
// program; each says whether an event is for its own subscriber or for all.
func Peer(ctx context.Context, cfg Config, exe, kind string, each bool) (*Stack, error) {
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
		"PEER_TOPIC="+s.Topic, "PEER_REDIS="+c.Redis().Addr, fmt.Sprint("PEER_EACH=", each))
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the peer: %w", err), s.close())
	}
	running = cmd
	s.WS, s.Gateways = "ws://"+addr+"/ws", []string{addr}
	s.Parts = []Part{{Name: "gateway (" + kind + ")", PID: cmd.Process.Pid}, {Name: "redis", PID: c.Redis().PID()}}
	if err := until(ctx, func() error { return answers(ctx, "http://"+addr+"/readyz") }); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}
