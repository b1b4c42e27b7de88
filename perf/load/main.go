//go:build linux

// Load runs the scenarios of k6/ against our services or the predecessor's: it starts
// them, stores filters, produces events, runs k6, and writes what came out.
//
//	go run ./perf/load --scenario cliff --target ours,blocking,async
//
// `make load` does that with everything that is needed installed.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type config struct {
	scenario scenario
	targets  []string
	blockMS  int
	exe, k6  string
	out      string
	profile  bool
	base     string // folder of profiles to compare with
	keep     bool   // the new ones take their place
}

func main() {
	cfg, err := flags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func flags(args []string) (cfg config, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	name := fs.String("scenario", "smoke", "script in k6/, without .js")
	targets := fs.String("target", "", "what to run it against, in turn: ours, blocking, async; the scenario's if empty")
	fs.IntVar(&cfg.blockMS, "block-ms", 100, "how long one read of the blocking baseline waits")
	sockets := fs.Int("sockets", 0, "sockets, for scenarios without levels; the scenario's if 0")
	levels := fs.String("levels", "", "numbers of sockets, separated by commas; the scenario's if empty")
	rate := fs.Float64("rate", 0, "events a second; the scenario's if 0")
	hold := fs.Duration("hold", 0, "time for each level; the scenario's if 0")
	fs.StringVar(&cfg.exe, "exe", ".services/bin/eventstream-load", "our program")
	fs.StringVar(&cfg.k6, "k6", ".services/bin/k6", "k6")
	fs.StringVar(&cfg.out, "out", "", "folder for results; k6/results/<scenario>-<time> if empty")
	fs.BoolVar(&cfg.profile, "profile", false, "keep profiles of our processes too")
	fs.StringVar(&cfg.base, "base", "", "folder of profiles to compare with; perf/profiles/<scenario> if empty")
	fs.BoolVar(&cfg.keep, "keep", false, "with --profile: store the new CPU profiles where --base is")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if cfg.scenario, err = find(*name); err != nil {
		return cfg, err
	}
	if err := cfg.scenario.set(*sockets, *levels, *rate, *hold); err != nil {
		return cfg, err
	}
	cfg.targets = strings.Split(cmp.Or(*targets, cfg.scenario.targets, "ours"), ",")
	if cfg.profile {
		cfg.targets = []string{"ours"}
	}
	cfg.base = cmp.Or(cfg.base, filepath.Join("perf/profiles", *name))
	cfg.out = cmp.Or(cfg.out, filepath.Join("k6/results", *name+"-"+time.Now().Format("20060102-150405")))
	return cfg, cfg.check()
}

// set changes what was given by flags.
func (s *scenario) set(sockets int, levels string, rate float64, hold time.Duration) error {
	s.sockets, s.rate, s.hold = cmp.Or(sockets, s.sockets), cmp.Or(rate, s.rate), cmp.Or(hold, s.hold)
	if s.extra > 1 {
		s.extra = max(s.extra, s.sockets/20)
	}
	if levels == "" {
		return nil
	}
	if len(s.levels) == 0 {
		return fmt.Errorf("--levels: %s has none, set --sockets", s.name)
	}
	s.levels = nil
	for l := range strings.SplitSeq(levels, ",") {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 {
			return fmt.Errorf("--levels %q: want numbers from 1, separated by commas", levels)
		}
		s.levels = append(s.levels, n)
	}
	return nil
}

const shortest = 8 * time.Second // connects, three seconds to settle, and something in between

func (cfg *config) check() error {
	if cfg.scenario.hold < shortest {
		return fmt.Errorf("--hold %s: want at least %s", cfg.scenario.hold, shortest)
	}
	if cfg.scenario.rate <= 0 || cfg.scenario.sockets < 0 || cfg.blockMS < 1 {
		return errors.New("--rate and --block-ms must be more than 0, --sockets not negative")
	}
	if cfg.keep && !cfg.profile {
		return errors.New("--keep is for --profile")
	}
	for _, t := range cfg.targets {
		if t != "ours" && t != "blocking" && t != "async" {
			return fmt.Errorf("--target %q: there are ours, blocking, async", t)
		}
		if t != "ours" && (cfg.scenario.ours || cfg.profile) {
			return fmt.Errorf("--target %s: the baseline can't do scenario %s, nor --profile; only cliff, ramp, fanout, personal", t, cfg.scenario.name)
		}
	}
	return nil
}

// run runs the scenario against each target, and fails in the end if ours did not
// keep the thresholds. The baseline is there to be seen failing.
func run(ctx context.Context, cfg config) error {
	var results []*result
	var failed error
	for _, target := range cfg.targets {
		r, err := runOne(ctx, cfg, target)
		if err != nil {
			return fmt.Errorf("%s against %s: %w", cfg.scenario.name, target, err)
		}
		results = append(results, r)
		if target == "ours" && !r.ok() {
			failed = fmt.Errorf("%s: thresholds were not kept; %s says which", cfg.scenario.name, filepath.Join(cfg.out, "summary.md"))
		}
	}
	text := markdown(cfg, results)
	if err := os.WriteFile(filepath.Join(cfg.out, "summary.md"), []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s\nresults: %s\n", text, cfg.out)
	return failed
}
