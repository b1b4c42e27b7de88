// Storm measures what happens when all clients of a gateway come back at once: it
// connects them, cuts them all off, produces events meanwhile, lets all resume
// with their cursors at the same time, and checks that each gets every event once.
//
//	go run ./perf/storm --clients 10000 --events 20
//
// It uses running services, and tells what the storm cost the gateway and Redis. With
// --parallel 0 all come in the same moment.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/perf/visit"
	"eventstream/topic"
)

type config struct {
	gateway, api, redis, kafka, topic string
	pages                             string
	clients, events, parallel         int
	away                              time.Duration
}

func main() {
	var cfg config
	flag.StringVar(&cfg.gateway, "gateway", "127.0.0.1:8003", "gateways, host:port, separated by commas")
	flag.StringVar(&cfg.pages, "pages", "", "where the first gateway's /metrics are; at --gateway if empty")
	flag.StringVar(&cfg.api, "api", "127.0.0.1:8001", "filter API, host:port")
	flag.StringVar(&cfg.redis, "redis", env("EVENTSTREAM_REDIS", "127.0.0.1:6379"), "Redis, host:port")
	flag.StringVar(&cfg.kafka, "kafka", env("EVENTSTREAM_KAFKA", "127.0.0.1:9092"), "Kafka, host:port")
	flag.StringVar(&cfg.topic, "topic", env("EVENTSTREAM_TOPIC", "events"), "topic of the events")
	flag.IntVar(&cfg.clients, "clients", 10_000, "clients")
	flag.IntVar(&cfg.events, "events", 20, "events for every client, produced while they are away")
	flag.IntVar(&cfg.parallel, "parallel", 256, "handshakes at the same time; all if 0")
	flag.DurationVar(&cfg.away, "away", time.Second, "how long they stay away after the last event")
	flag.Parse()
	if cfg.parallel == 0 {
		cfg.parallel = cfg.clients
	}
	if err := run(context.Background(), cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func run(ctx context.Context, cfg config, out io.Writer) error {
	kind := fmt.Sprintf("storm-%d", time.Now().UnixNano())
	s := &storm{cfg: cfg, kind: kind, gateways: strings.Split(cfg.gateway, ",")}
	s.clients = make([]visit.Client, cfg.clients)
	redis, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{cfg.redis}, DisableCache: true})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer redis.Close()
	if err := s.filters(ctx); err != nil {
		return err
	}
	w, err := watch(cmp.Or(cfg.pages, s.gateways[0]))
	if err != nil {
		return err
	}
	took, err := s.connect(ctx, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d clients connected in %v, %.0f a second, refused meanwhile %d; %s\n", cfg.clients, took.Round(time.Millisecond),
		float64(cfg.clients)/took.Seconds(), s.refused.Swap(0), w.stop(cfg.clients/len(s.gateways)))
	s.cut()
	if err := s.produce(ctx); err != nil {
		return err
	}
	time.Sleep(cfg.away)
	before, err := redisCPU(ctx, redis)
	if err != nil {
		return err
	}
	if w, err = watch(cmp.Or(cfg.pages, s.gateways[0])); err != nil {
		return err
	}
	if took, err = s.connect(ctx, cfg.events); err != nil {
		return err
	}
	used := w.stop(cfg.clients / len(s.gateways))
	after, err := redisCPU(ctx, redis)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "all back and caught up in %v: %.0f clients and %.0f deliveries a second, refused meanwhile %d; %s\n", took.Round(time.Millisecond),
		float64(cfg.clients)/took.Seconds(), float64(cfg.clients*cfg.events)/took.Seconds(), s.refused.Load(), used)
	slices.Sort(s.times)
	fmt.Fprintf(out, "one client, from dial to its last missed event: p50 %v, p99 %v\n", s.times[len(s.times)/2].Round(time.Millisecond), s.times[len(s.times)*99/100].Round(time.Millisecond))
	fmt.Fprintf(out, "Redis used %.3f CPU-seconds meanwhile, %.1f µs a client\n", after-before, 1e6*(after-before)/float64(cfg.clients))
	fmt.Fprintf(out, "events missing %d, twice %d, gaps %d\n", s.missing.Load(), s.twice.Load(), s.gaps.Load())
	s.cut()
	if s.missing.Load()+s.twice.Load()+s.gaps.Load() > 0 {
		return fmt.Errorf("not every client got every event once")
	}
	return nil
}

type storm struct {
	cfg      config
	kind     string // event_type
	gateways []string
	clients  []visit.Client

	mu                   sync.Mutex
	times                []time.Duration
	missing, twice, gaps atomic.Int64
	refused              atomic.Int64
}

// each calls do for every client, many at a time, and returns the first error.
func (s *storm) each(parallel int, do func(i int) error) error {
	var wg sync.WaitGroup
	var first atomic.Pointer[error]
	turn := make(chan struct{}, parallel)
	for i := range s.clients {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			if err := do(i); err != nil {
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *storm) subscriber(i int) string { return fmt.Sprintf("%s-%d", s.kind, i) }

// connect connects all, with the cursors that they have, and returns when each has
// got so many events.
func (s *storm) connect(ctx context.Context, events int) (time.Duration, error) {
	began := time.Now()
	err := s.each(s.cfg.parallel, func(i int) error {
		c, start := &s.clients[i], time.Now()
		refused, err := c.Connect(ctx, s.gateways[i%len(s.gateways)], s.subscriber(i))
		s.refused.Add(int64(refused))
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		got := make(map[string]int)
		for len(got) < events {
			m, err := c.Read()
			if err != nil {
				s.missing.Add(int64(events - len(got)))
				return fmt.Errorf("client %d with %d of %d events: %w", i, len(got), events, err)
			}
			if m.Type == "gap" {
				s.gaps.Add(1)
			}
			for _, e := range m.Events {
				if got[e.ID]++; got[e.ID] > 1 {
					s.twice.Add(1)
				}
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.times = append(s.times, time.Since(start))
		return nil
	})
	return time.Since(began), err
}

// cut closes all connections, without a word.
func (s *storm) cut() {
	for i := range s.clients {
		s.clients[i].Cut()
	}
	s.times = nil
}

func (s *storm) produce(ctx context.Context) error {
	p, err := topic.NewProducer(topic.Config{Brokers: strings.Split(s.cfg.kafka, ","), Topic: s.cfg.topic}, prometheus.NewRegistry(), slog.Default())
	if err != nil {
		return err
	}
	defer p.Close()
	failed := make(chan error, s.cfg.events)
	for i := range s.cfg.events {
		value := fmt.Appendf(nil, `{"event_id":"%s-%d","event_type":%q,"user_id":"user_%d","amount":%d}`, s.kind, i, s.kind, i, i)
		p.Produce(ctx, fmt.Append(nil, "user_", i), value, nil, func(_ *kgo.Record, err error) { failed <- err })
	}
	for range s.cfg.events {
		if err := <-failed; err != nil {
			return fmt.Errorf("produce: %w", err)
		}
	}
	return nil
}

// redisCPU returns the CPU-seconds that Redis has used so far.
func redisCPU(ctx context.Context, c rueidis.Client) (float64, error) {
	text, err := c.Do(ctx, c.B().Info().Section("cpu").Build()).ToString()
	if err != nil {
		return 0, fmt.Errorf("redis info: %w", err)
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		var v float64
		if n, _ := fmt.Sscanf(line, "used_cpu_user:%f", &v); n == 1 {
			sum += v
		}
		if n, _ := fmt.Sscanf(line, "used_cpu_sys:%f", &v); n == 1 {
			sum += v
		}
	}
	return sum, nil
}
