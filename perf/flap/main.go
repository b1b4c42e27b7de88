//go:build linux

// Flap measures what clients that connect and close without end cost the others. It
// starts our services on the servers of `make services`, connects a subscriber to whom
// events come at a steady rate, and measures how late they come: while all is quiet,
// while others flap at services of their own, so that only the machine is shared, while
// they flap at ours, by turns, and while their seats are given up.
//
//	go run ./perf/flap --connects 100000 --subscribers 1
//	go run ./perf/flap --connects 100000 --subscribers 100000 --how mixed --cursors
//	go run ./perf/flap --limits
//
// The limits of handshakes are off, unless asked for, so that they don't hide what a
// connect costs. Who flaps is a process of its own, behind all others (nice 19), as if
// it were on other machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

type config struct {
	load
	gateways, rounds    int
	rate, flapperRate   float64
	quiet, most, settle time.Duration
	window, after       time.Duration
	limits, profile     bool
	control             bool
	exe, out            string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "flap:", err)
		os.Exit(1)
	}
}

// childArg makes this program the process that flaps.
const childArg = "connect"

func start(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == childArg {
		return child(ctx, os.Stdin, os.Stdout)
	}
	cfg, err := flags(args)
	if err != nil {
		return err
	}
	r, err := run(ctx, cfg)
	if err != nil {
		return err
	}
	text := r.text()
	fmt.Print(text)
	if err := os.WriteFile(filepath.Join(cfg.out, "summary.md"), []byte(text), 0o644); err != nil {
		return err
	}
	return r.wrong()
}

func flags(args []string) (cfg config, err error) {
	fs := flag.NewFlagSet("flap", flag.ContinueOnError)
	fs.IntVar(&cfg.Connects, "connects", 100_000, "connections that are made and closed")
	fs.IntVar(&cfg.Subscribers, "subscribers", 1, "whose they are, in equal parts; each has a filter")
	fs.StringVar(&cfg.How, "how", "ws", "ws, sse, or mixed")
	fs.BoolVar(&cfg.Cursors, "cursors", false, "come back with the cursor of the connection before")
	fs.IntVar(&cfg.Parallel, "parallel", 32, "connections at the same time")
	fs.Float64Var(&cfg.Pace, "pace", 0, "connects a second; as fast as can be if 0")
	fs.IntVar(&cfg.gateways, "gateways", 1, "gateways, by turns")
	fs.IntVar(&cfg.rounds, "rounds", 4, "in how many parts they flap; before each part they do so at services of their own")
	fs.Float64Var(&cfg.rate, "rate", 100, "events a second for the one that is measured")
	fs.Float64Var(&cfg.flapperRate, "flapper-rate", 20, "events a second for those that flap, by turns")
	fs.DurationVar(&cfg.quiet, "quiet", 20*time.Second, "how long nobody flaps at first")
	fs.DurationVar(&cfg.most, "most", 10*time.Minute, "how long they flap at most")
	fs.DurationVar(&cfg.after, "after", 30*time.Second, "how long is measured after that, while seats are given up")
	fs.DurationVar(&cfg.settle, "settle", 10*time.Second, "how long the last events may take")
	fs.DurationVar(&cfg.window, "resume-window", 5*time.Second, "of the gateways")
	fs.BoolVar(&cfg.limits, "limits", false, "with the default limits of handshakes, and that of an address, which loopback does not have by itself")
	fs.BoolVar(&cfg.control, "control", true, "have them flap at services of their own, too, to see what the machine alone does to latencies")
	fs.BoolVar(&cfg.profile, "profile", false, "keep CPU profiles of our processes, over the first 10 s of the flapping")
	fs.StringVar(&cfg.exe, "binary", ".services/bin/eventstream-load", "our program, of this version or another")
	fs.StringVar(&cfg.out, "out", filepath.Join("k6/results", "flap-"+time.Now().Format("20060102-150405")), "folder for results and logs")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	return cfg, cfg.check()
}

func (cfg *config) check() error {
	switch {
	case cfg.Connects < 1 || cfg.Subscribers < 1 || cfg.Parallel < 1 || cfg.gateways < 1:
		return errors.New("--connects, --subscribers, --parallel and --gateways must be at least 1")
	case cfg.rounds < 1 || cfg.Connects < cfg.rounds:
		return fmt.Errorf("--rounds %d: want at least 1, and at most --connects, %d", cfg.rounds, cfg.Connects)
	case cfg.Subscribers > cfg.Connects:
		return fmt.Errorf("--subscribers %d: want at most --connects, %d", cfg.Subscribers, cfg.Connects)
	case !slices.Contains([]string{"ws", "sse", "mixed"}, cfg.How):
		return fmt.Errorf("--how %q: there are ws, sse, mixed", cfg.How)
	case !(cfg.rate > 0) || !(cfg.flapperRate > 0) || !(cfg.Pace >= 0):
		return errors.New("--rate and --flapper-rate must be more than 0, --pace not negative")
	case min(cfg.quiet, cfg.most, cfg.settle, cfg.window, cfg.after) < time.Second:
		return errors.New("--quiet, --most, --after, --settle and --resume-window must be at least 1s")
	}
	return nil
}
