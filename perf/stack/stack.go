// Package stack starts what a measurement is made on: our services, or the
// predecessor's, as processes of their own, on the Kafka and PostgreSQL of `make
// services` and a Redis, a database and a topic of their own, which are gone after
// Close.
package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"eventstream/internal/check/cluster"
)

// Stack is the running processes.
type Stack struct {
	Name    string // what it is, for reports
	WS      string // URL of the WebSockets, of the first gateway
	API     string // URL of the filter API, "" if it has none
	Brokers []string
	Topic   string
	Redis   string // host:port
	Parts   []Part

	Gateways []string // host:port of each

	addFilters func(ctx context.Context, filters []Filter) error
	close      func() error
}

// Part is one of the processes.
type Part struct {
	Name  string
	PID   int
	Admin string // host:port of its profiles, "" if it serves none
}

// Filter is a subscriber and what it is to get: events of the type, or of the user, or
// of at least the amount, whatever is given.
type Filter struct {
	Subscriber, Type, User string
	MinAmount              float64
}

// Config says what to start, and where.
type Config struct {
	Dir  string // logs and data
	Name string // of topic and database: letters, digits and underscores
	Exe  string // our program

	Partitions int      // of the topic; 6 if zero
	Gateways   int      // of ours; 1 if zero
	Processes  int      // of each gateway, which share its port; 1 if zero
	Env        []string // settings of our services
}

// AddFilters stores filters, and returns when events are matched by them.
func (s *Stack) AddFilters(ctx context.Context, filters []Filter) error {
	return s.addFilters(ctx, filters)
}

// Close ends all processes and takes away what was made on the servers.
func (s *Stack) Close() error { return s.close() }

// Ours starts an API, a filter service and the gateways.
func Ours(ctx context.Context, cfg Config) (*Stack, error) {
	c, err := start(ctx, cfg, 1, max(cfg.Gateways, 1))
	if err != nil {
		return nil, err
	}
	api := c.API()
	s := &Stack{Name: "ours", API: "http://" + api.Addr, Redis: c.Redis()[0].Addr, close: c.Close}
	s.Brokers, s.Topic = c.Kafka()
	for _, p := range slices.Concat(c.Gateways(), c.Filters(), []*cluster.Service{api}) {
		s.Parts = append(s.Parts, Part{p.Name, p.PID(), p.Admin})
	}
	for _, g := range c.Gateways() {
		s.Gateways = append(s.Gateways, g.Addr)
	}
	s.WS = "ws://" + s.Gateways[0] + "/ws"
	s.Parts = append(s.Parts, Part{Name: "redis", PID: c.Redis()[0].PID()})
	s.addFilters = func(ctx context.Context, filters []Filter) error { return post(ctx, s.API, filters) }
	return s, nil
}

// start starts so many filter services and gateways, and an API if there are any, beside
// a Redis.
func start(ctx context.Context, cfg Config, filters, gateways int) (*cluster.Cluster, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for logs: %w", err)
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server is needed: %w", err)
	}
	kafka, err := server("EVENTSTREAM_KAFKA")
	if err != nil {
		return nil, err
	}
	postgres, err := server("EVENTSTREAM_POSTGRES")
	if err != nil {
		return nil, err
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 6
	}
	return cluster.Start(ctx, cluster.Config{
		Exe: cfg.Exe, Dir: cfg.Dir, Name: cfg.Name, Kafka: strings.Split(kafka, ","), Postgres: postgres, Redis: redis,
		Filters: filters, Gateways: gateways, Processes: cfg.Processes, Partitions: cfg.Partitions, Direct: true, Env: cfg.Env,
	})
}

// server returns where a server is: by the environment, or else by what `make
// services` has left in the working directory.
func server(key string) (string, error) {
	if v := os.Getenv(key); v != "" {
		return v, nil
	}
	text, _ := os.ReadFile(filepath.Join(".services", "env"))
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return v, nil
		}
	}
	return "", errors.New(key + " is not set, and .services/env does not say it: run `make services` first")
}
