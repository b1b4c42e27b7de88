//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"eventstream/perf/feed"
	"eventstream/perf/stack"
	"eventstream/perf/usage"
)

// runOne runs the scenario against one target.
func runOne(ctx context.Context, cfg config, target string) (r *result, err error) {
	dir := filepath.Join(cfg.out, target)
	name := fmt.Sprintf("load_%d", time.Now().UnixMilli())
	env := []string{"EVENTSTREAM_HANDSHAKE_RATE=0"} // k6 opens a level's sockets at once, and does not come again
	if cfg.scenario.ring > 0 {
		env = append(env, fmt.Sprint("EVENTSTREAM_RING_BYTES=", cfg.scenario.ring))
	}
	s, err := begin(ctx, cfg, target, stack.Config{Dir: filepath.Join(dir, "logs"), Name: name, Env: env})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if cfg.scenario.subscribers() == 0 {
		return k6(ctx, cfg, s, "", name, dir)
	}
	if err := s.AddFilters(ctx, filters(&cfg.scenario, name)); err != nil {
		return nil, err
	}
	f, err := feed.New(feed.Config{
		Brokers: s.Brokers, Topic: s.Topic, Run: name,
		Streams: cfg.scenario.streams(), Rate: cfg.scenario.rate, Pad: cfg.scenario.pad,
	}, slog.Default())
	if err != nil {
		return nil, err
	}
	produced := make(chan error, 1)
	go func() { produced <- f.Run(ctx) }()
	addr, stop, err := serve(f.Handler())
	if err == nil {
		r, err = k6(ctx, cfg, s, "http://"+addr, name, dir)
		stop()
	}
	f.Stop()
	return r, errors.Join(err, <-produced)
}

func begin(ctx context.Context, cfg config, target string, scfg stack.Config) (*stack.Stack, error) {
	fmt.Printf("starting %s\n", target)
	if target != "ours" {
		return stack.Baseline{Mode: target, BlockMS: cfg.blockMS}.Start(ctx, scfg)
	}
	var err error
	if scfg.Exe, err = filepath.Abs(cfg.exe); err != nil {
		return nil, err
	}
	scfg.Env = append(scfg.Env, "EVENTSTREAM_LOG_LEVEL=warn")
	return stack.Ours(ctx, scfg)
}

// filters are those of the scenario's subscribers.
func filters(s *scenario, run string) []stack.Filter {
	out := make([]stack.Filter, s.subscribers())
	for i := range out {
		out[i] = stack.Filter{Subscriber: feed.User(run, i), Type: run}
		if s.each {
			out[i].User = feed.User(run, i)
		}
	}
	return out
}

// serve answers on a free port until stop is called.
func serve(h http.Handler) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	return l.Addr().String(), func() { srv.Close() }, nil
}

// k6 runs the script, and watches what everybody uses meanwhile.
func k6(ctx context.Context, cfg config, s *stack.Stack, feedURL, run, dir string) (*result, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "k6.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	summary := filepath.Join(dir, "summary.json")
	cmd := exec.CommandContext(ctx, cfg.k6, "run", "--quiet", "--address", "", filepath.Join("k6", cfg.scenario.name+".js"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), settings(cfg, s, feedURL, run, summary)...)
	cmd.Env = append(cmd.Env, "K6_WEB_DASHBOARD=true", "K6_WEB_DASHBOARD_PORT=-1", "K6_WEB_DASHBOARD_PERIOD=2s",
		"K6_WEB_DASHBOARD_EXPORT="+filepath.Join(dir, "report.html"), "K6_NO_USAGE_REPORT=true",
		"K6_LOCAL_IPS=127.0.0.2-127.0.0.11") // one for each VU: with most ports of an address in use, the kernel takes long to find one
	fmt.Printf("running %s against %s, about %s\n", cfg.scenario.name, s.Name, cfg.scenario.length())
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start k6, which scripts/k6.sh installs: %w", err)
	}
	w := watch(append([]stack.Part{{Name: "k6", PID: cmd.Process.Pid}}, s.Parts...))
	var profiled chan error
	if cfg.profile {
		profiled = make(chan error, 1)
		go func() { profiled <- profiles(ctx, cfg, s.Parts, dir) }()
	}
	err = cmd.Wait()
	r := &result{target: s.Name, dir: dir, sockets: cfg.scenario.judged(), used: w.stop()}
	if profiled != nil {
		err = cmp.Or(<-profiled, err)
	}
	return r, cmp.Or(r.read(summary, cmd.ProcessState.ExitCode(), log.Name()), exitError(err), alive(s.Parts, dir))
}

// alive tells of a process that did not live to the end: what was measured without it
// is worth nothing.
func alive(parts []stack.Part, dir string) error {
	for _, p := range parts {
		if u, err := usage.Of(p.PID); err != nil || u.RSS == 0 { // one that nobody has collected has no memory
			return fmt.Errorf("%s ended by itself; its log is in %s", p.Name, filepath.Join(dir, "logs"))
		}
	}
	return nil
}

const thresholdsFailed = 99 // k6's exit code when everything else went well

// exitError tells what went wrong apart from thresholds, which are in the summary.
func exitError(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if ok && exit.ExitCode() == thresholdsFailed {
		return nil
	}
	return err
}

// settings are what k6/lib/config.js reads.
func settings(cfg config, s *stack.Stack, feedURL, run, summary string) []string {
	c := &cfg.scenario
	return []string{
		"SCENARIO=" + c.name, "WS_URL=" + s.WS, "API_URL=" + s.API, "FEED_URL=" + feedURL, "RUN=" + run,
		fmt.Sprint("STREAMS=", c.streams()), fmt.Sprint("SOCKETS=", c.sockets), fmt.Sprint("HOLD=", c.hold.Seconds()),
		fmt.Sprint("REST=", c.rest.Seconds()), fmt.Sprint("RATE=", c.rate), fmt.Sprint("LATE_MS=", c.late.Milliseconds()),
		"LEVELS=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(c.levels), " ", ","), "[]"), "SUMMARY=" + summary,
	}
}

// result is what a run against one target gave.
type result struct {
	target, dir string
	sockets     int // that had to be judged
	metrics     map[string]metric
	compared    []condition
	used        used
}

type metric struct {
	Type       string
	Values     map[string]float64
	Thresholds map[string]condition
}

type condition struct {
	Text string
	OK   bool
}

func (r *result) read(summary string, exit int, log string) error {
	text, err := os.ReadFile(summary)
	if err != nil {
		end, _ := os.ReadFile(log)
		return fmt.Errorf("k6 exited with %d and left no summary; its log ends with:\n%s", exit, end[max(0, len(end)-2000):])
	}
	var all struct {
		Metrics  map[string]metric
		Compared []condition
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read k6's summary: %w", err)
	}
	r.metrics, r.compared = all.Metrics, all.Compared
	return nil
}

// judged returns how many sockets were judged: a threshold on what was never measured
// would be kept.
func (r *result) judged() int {
	v := r.metrics["conn_ok"].Values
	return int(v["passes"] + v["fails"])
}

// ok reports whether all thresholds were kept, for all sockets.
func (r *result) ok() bool {
	if r.judged() != r.sockets {
		return false
	}
	for _, m := range r.metrics {
		for _, t := range m.Thresholds {
			if !t.OK {
				return false
			}
		}
	}
	for _, c := range r.compared {
		if !c.OK {
			return false
		}
	}
	return true
}
