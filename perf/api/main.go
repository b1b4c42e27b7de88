//go:build linux

// Api measures our filter API beside the least that does the same work, on one
// database and one Redis, by turns: requests a second, and CPU per request of the
// process that answers.
//
//	go run ./perf/api --exe .services/bin/eventstream-load
//
// `make perf-api` does that with everything that is needed built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"eventstream/internal/check/cluster"
	"eventstream/perf/usage"
)

type config struct {
	exe, out string
	clients  int
	rounds   int
	duration time.Duration
	lines    int
}

func main() {
	if os.Getenv(listenKey) != "" {
		fmt.Fprintln(os.Stderr, serveMinimal())
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cfg config
	flag.StringVar(&cfg.exe, "exe", ".services/bin/eventstream-load", "our program")
	flag.StringVar(&cfg.out, "out", filepath.Join("k6/results", "api-"+time.Now().Format("20060102-150405")), "folder for logs")
	flag.IntVar(&cfg.clients, "clients", 32, "requests at the same time")
	flag.IntVar(&cfg.rounds, "rounds", 3, "turns of each server with each kind of request; the median counts")
	flag.DurationVar(&cfg.duration, "duration", 5*time.Second, "of each turn, but for imports")
	flag.IntVar(&cfg.lines, "lines", 20_000, "filters of an import")
	flag.Parse()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// server is one of the two.
type server struct {
	name, url string
	pid       int
}

func run(ctx context.Context, cfg config) error {
	if cfg.clients < 1 || cfg.rounds < 1 || cfg.duration <= 0 || cfg.lines < 1 {
		return errors.New("--clients, --rounds, --duration and --lines must be more than 0")
	}
	postgres, kafka := os.Getenv("EVENTSTREAM_POSTGRES"), os.Getenv("EVENTSTREAM_KAFKA")
	if postgres == "" || kafka == "" {
		return errors.New("EVENTSTREAM_POSTGRES and EVENTSTREAM_KAFKA say where the servers are: run `make services`, and source .services/env")
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("redis-server is needed: %w", err)
	}
	if err := os.MkdirAll(cfg.out, 0o700); err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Exe: cfg.exe, Dir: cfg.out, Name: fmt.Sprintf("perf_api_%d", os.Getpid()), Kafka: strings.Split(kafka, ","),
		Postgres: postgres, Redis: redis, Filters: 1, Partitions: 1, Direct: true,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	other, stop, err := startMinimal(c)
	if err != nil {
		return err
	}
	defer stop()
	return measure(ctx, cfg, []server{{"ours", "http://" + c.API().Addr, c.API().PID()}, other})
}

// startMinimal runs this program as the other server.
func startMinimal(c *cluster.Cluster) (s server, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, nil, err
	}
	addr := ln.Addr().String()
	ln.Close()
	exe, err := os.Executable()
	if err != nil {
		return s, nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), listenKey+"="+addr, postgresKey+"="+c.Database().URL(), redisKey+"="+c.Redis()[0].Addr)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return s, nil, err
	}
	return server{"net/http + pgx", "http://" + addr, cmd.Process.Pid}, func() { cmd.Process.Kill(); cmd.Wait() }, nil
}

// turn is what one server did in one turn.
type turn struct {
	rate float64       // requests or filters a second
	cpu  time.Duration // for each
}

func measure(ctx context.Context, cfg config, servers []server) error {
	l := newLoad(cfg)
	fmt.Printf("%d requests at the same time, %d turns each, the median\n\n", cfg.clients, cfg.rounds)
	fmt.Println("| | ours: per second | CPU each | net/http + pgx: per second | CPU each | ours costs |")
	fmt.Println("|---|--:|--:|--:|--:|--:|")
	for _, kind := range l.kinds() {
		turns := make([][]turn, len(servers))
		for range cfg.rounds {
			for i, s := range servers {
				if err := l.prepare(ctx, s); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				t, err := take(ctx, s, kind.do)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, kind.name, err)
				}
				turns[i] = append(turns[i], t)
			}
		}
		a, b := median(turns[0]), median(turns[1])
		fmt.Printf("| %s | %.0f | %v | %.0f | %v | %.2f× |\n", kind.name, a.rate, a.cpu.Round(100*time.Nanosecond), b.rate, b.cpu.Round(100*time.Nanosecond), float64(a.cpu)/float64(b.cpu))
	}
	return nil
}

// take measures what a server used for what do had it do.
func take(ctx context.Context, s server, do func(context.Context, server) (int, error)) (turn, error) {
	before, err := usage.Of(s.pid)
	if err != nil {
		return turn{}, err
	}
	began := time.Now()
	n, err := do(ctx, s)
	if err != nil {
		return turn{}, err
	}
	took := time.Since(began)
	after, err := usage.Of(s.pid)
	return turn{float64(n) / took.Seconds(), (after.CPU - before.CPU) / time.Duration(max(n, 1))}, err
}

func median(turns []turn) turn {
	slices.SortFunc(turns, func(a, b turn) int { return int(a.cpu - b.cpu) })
	return turns[len(turns)/2]
}
