//go:build linux

// Swarm holds many thousand WebSockets, on raw epoll and at under 2 KB each, and checks
// every delivery: what is missing, extra, twice or out of order. It goes on where k6
// becomes the limit.
//
//	go run ./perf/swarm --sockets 10000 --rate 100
//	go run ./perf/swarm --sockets 36000 --processes 2 --gateways 2 --each --rate 5000
//	go run ./perf/swarm --sockets 100000 --gateway-processes 6 --each --rate 2000
//
// It starts our services on the servers of `make services`, and reports rates, latencies
// and what every process used, by /proc.
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
	"strconv"
	"strings"
	"syscall"
	"time"
)

type config struct {
	sizes     []int
	sockets   int // of this run
	processes int
	gateways  int
	shared    int
	each      bool
	none      bool
	profile   bool
	rate      float64
	pad       int
	duration  time.Duration
	settle    time.Duration
	away      time.Duration // 0: no storm
	parallel  int
	exe, out  string
	servers   []string
	peer      string // program of perf/peers/sockets
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "swarm:", err)
		os.Exit(1)
	}
}

// childArg makes this program one of the processes that hold sockets.
const childArg = "hold"

func start(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == childArg {
		return child(os.Stdin, os.Stdout)
	}
	cfg, err := flags(args)
	if err != nil {
		return err
	}
	var all []*outcome
	wrong := false
	for _, n := range cfg.sizes {
		for _, server := range cfg.servers {
			o, err := run(ctx, cfg.sized(n), server)
			if err != nil {
				return fmt.Errorf("%s with %d sockets: %w", server, n, err)
			}
			text := o.text()
			fmt.Printf("%s: %s\n", server, text)
			if err := o.write(text); err != nil {
				return err
			}
			all = append(all, o)
			wrong = wrong || server == ours && o.tally.wrong()
		}
	}
	if len(all) > 1 {
		fmt.Print(ratios(cfg, all))
	}
	if wrong {
		return errors.New("not every subscriber got every event once and in order")
	}
	return nil
}

// sized is the configuration of a run with so many sockets.
func (cfg config) sized(sockets int) config {
	cfg.sockets = sockets
	if cfg.processes == 0 {
		cfg.processes = (sockets + perProcess - 1) / perProcess
	}
	if cfg.gateways == 0 {
		most := perGateway * max(cfg.shared, 1)
		cfg.gateways = (sockets + most - 1) / most
	}
	if len(cfg.sizes) > 1 {
		cfg.out = filepath.Join(cfg.out, strconv.Itoa(sockets))
	}
	return cfg
}

const ours = "ours"

const (
	perProcess = 19_500 // descriptors of a process that may have 20,000
	perGateway = 19_500
)

func flags(args []string) (cfg config, err error) {
	fs := flag.NewFlagSet("swarm", flag.ContinueOnError)
	sizes := fs.String("sockets", "10000", "sockets, a subscriber each; several numbers, separated by commas, for a run with each")
	fs.IntVar(&cfg.processes, "processes", 0, "processes that hold them; as many as are needed if 0")
	fs.IntVar(&cfg.gateways, "gateways", 0, "gateways; as many as are needed if 0")
	fs.IntVar(&cfg.shared, "gateway-processes", 1, "processes of each gateway, which share its port")
	fs.BoolVar(&cfg.each, "each", false, "every event is for one subscriber, by turns, not for all")
	fs.BoolVar(&cfg.none, "none", false, "every subscriber's filter wants more than an event has: what does an event cost that nobody gets?")
	fs.Float64Var(&cfg.rate, "rate", 100, "events a second")
	fs.IntVar(&cfg.pad, "pad", 100, "bytes of padding in an event")
	fs.DurationVar(&cfg.duration, "duration", 20*time.Second, "how long events are produced")
	fs.DurationVar(&cfg.settle, "settle", 5*time.Second, "how long the last ones may take")
	fs.DurationVar(&cfg.away, "storm", 0, "when events were produced for --duration, cut all sockets off, and have all come back after so long; events go on meanwhile")
	fs.BoolVar(&cfg.profile, "profile", false, "keep CPU profiles of our processes, over --duration")
	fs.IntVar(&cfg.parallel, "parallel", 64, "handshakes at the same time, for each process")
	fs.StringVar(&cfg.exe, "exe", ".services/bin/eventstream-load", "our program")
	fs.StringVar(&cfg.peer, "peer", ".services/bin/sockets", "program of perf/peers/sockets")
	servers := fs.String("server", ours, "what to measure, in turn: ours, gws, coder, centrifuge")
	fs.StringVar(&cfg.out, "out", filepath.Join("k6/results", "swarm-"+time.Now().Format("20060102-150405")), "folder for results and logs")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	cfg.servers = strings.Split(*servers, ",")
	for n := range strings.SplitSeq(*sizes, ",") {
		size, err := strconv.Atoi(n)
		if err != nil || size < 1 {
			return cfg, fmt.Errorf("--sockets %q: want numbers from 1, separated by commas", *sizes)
		}
		cfg.sizes = append(cfg.sizes, size)
	}
	return cfg, cfg.check()
}

func (cfg *config) check() error {
	for _, server := range cfg.servers {
		if !slices.Contains([]string{ours, "gws", "coder", "centrifuge"}, server) {
			return fmt.Errorf("--server %q: there are ours, gws, coder, centrifuge", server)
		}
		if cfg.none && server != ours && server != "centrifuge" {
			return fmt.Errorf("--none: %s has no filters; only ours and centrifuge do", server)
		}
		if largest := slices.Max(cfg.sizes); server != ours && cfg.sized(largest).gateways*cfg.shared > 1 {
			return fmt.Errorf("--server %s: it is measured with one gateway, so with at most %d sockets", server, perGateway)
		}
	}
	switch {
	case cfg.processes < 0 || cfg.gateways < 0 || cfg.shared < 1 || cfg.parallel < 1:
		return errors.New("--processes and --gateways must not be negative, --gateway-processes and --parallel must be at least 1")
	case cfg.sized(slices.Max(cfg.sizes)).processes > 200:
		return errors.New("--processes: want at most 200, each has loopback addresses")
	case !(cfg.rate > 0) || cfg.pad < 0 || cfg.duration < time.Second || cfg.settle < time.Second:
		return errors.New("--rate must be more than 0, --pad not negative, --duration and --settle at least 1s")
	case cfg.none && (cfg.each || cfg.away > 0):
		return errors.New("--none goes neither with --each nor with --storm")
	case cfg.away < 0:
		return errors.New("--storm must not be negative")
	}
	return nil
}
