//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"eventstream/perf/feed"
	"eventstream/perf/stack"
	"eventstream/perf/usage"
)

// swarm is a run.
type swarm struct {
	cfg      config
	name     string
	stack    *stack.Stack
	children []*process
	idle     []usage.Usage // of the stack's parts, before anybody connected
	full     []usage.Usage // with all connected
}

// process is one that holds sockets.
type process struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

// outcome is what came out of a run.
type outcome struct {
	connect  time.Duration
	produced time.Duration
	tally    tally
	latency  *hdrhistogram.Histogram
	holders  usage.Usage // of all processes that held sockets, together
	holding  int64       // what they had when all were connected, and nothing was sent yet
	sockets  int64       // what of that is for sockets
	parts    []part
}

// part is one process of the services.
type part struct {
	name             string
	idle, full, last int64 // RSS before, with all connected, at the end
	cpu              time.Duration
}

func run(ctx context.Context, cfg config) (o *outcome, err error) {
	exe, err := filepath.Abs(cfg.exe)
	if err != nil {
		return nil, err
	}
	s := &swarm{cfg: cfg, name: fmt.Sprintf("swarm_%d", time.Now().UnixMilli())}
	s.stack, err = stack.Ours(ctx, stack.Config{
		Dir: filepath.Join(cfg.out, "logs"), Name: s.name, Exe: exe, Gateways: cfg.gateways,
		Env: []string{"EVENTSTREAM_LOG_LEVEL=warn", fmt.Sprint("EVENTSTREAM_MAX_CONNS=", perGateway)},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		s.kill()
		err = errors.Join(err, s.stack.Close())
	}()
	if err := s.stack.AddFilters(ctx, s.filters()); err != nil {
		return nil, err
	}
	return s.measure(ctx)
}

func (s *swarm) streams() int {
	if s.cfg.each {
		return s.cfg.sockets
	}
	return 0
}

func (s *swarm) filters() []stack.Filter {
	out := make([]stack.Filter, s.cfg.sockets)
	for i := range out {
		out[i] = stack.Filter{Subscriber: feed.User(s.name, i), Type: s.name}
		if s.cfg.each {
			out[i].User = feed.User(s.name, i)
		}
	}
	return out
}

func (s *swarm) measure(ctx context.Context) (*outcome, error) {
	f, err := feed.New(feed.Config{
		Brokers: s.stack.Brokers, Topic: s.stack.Topic, Run: s.name, Streams: s.streams(), Rate: s.cfg.rate, Pad: s.cfg.pad,
	}, slog.Default())
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: f.Handler()}
	go srv.Serve(l)
	defer srv.Close()

	o := &outcome{latency: hdrhistogram.New(1, longest, 3)}
	s.idle = s.usage()
	if err := s.connect(ctx, o, "http://"+l.Addr().String()); err != nil {
		return nil, err
	}
	s.full = s.usage()
	if err := s.produce(ctx, f, o); err != nil {
		return nil, err
	}
	o.parts = s.parts()
	return o, s.collect(o)
}

// connect starts the processes and waits until all sockets are connected.
func (s *swarm) connect(ctx context.Context, o *outcome, feedURL string) error {
	began := time.Now()
	for i := range s.cfg.processes {
		if err := s.spawn(ctx, i, feedURL); err != nil {
			return err
		}
	}
	for i, p := range s.children {
		var r report
		if err := p.out.Decode(&r); err != nil {
			return fmt.Errorf("process %d did not connect its sockets: %w", i, err)
		}
		o.holding += r.RSS
		o.sockets += r.Sockets
	}
	o.connect = time.Since(began)
	return nil
}

// spawn starts process i, which connects its share from an address of its own.
func (s *swarm) spawn(ctx context.Context, i int, feedURL string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, childArg)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithUs()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process for sockets: %w", err)
	}
	p := &process{cmd, json.NewEncoder(in), json.NewDecoder(io.Reader(out))}
	s.children = append(s.children, p)
	return p.in.Encode(s.share(i, feedURL))
}

func (s *swarm) share(i int, feedURL string) share {
	first, next := i*s.cfg.sockets/s.cfg.processes, (i+1)*s.cfg.sockets/s.cfg.processes
	sh := share{
		Run: s.name, First: first, Count: next - first, Streams: s.streams(),
		Local: netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), Parallel: s.cfg.parallel, Feed: feedURL,
	}
	for _, g := range s.stack.Gateways {
		sh.Gateways = append(sh.Gateways, netip.MustParseAddrPort(g))
	}
	return sh
}

// produce produces for the time, and waits for the last events to arrive.
func (s *swarm) produce(ctx context.Context, f *feed.Feed, o *outcome) error {
	began := time.Now()
	produced := make(chan error, 1)
	go func() { produced <- f.Run(ctx) }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-produced:
		return err
	case <-time.After(s.cfg.duration):
	}
	f.Stop()
	o.produced = time.Since(began)
	if err := <-produced; err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.cfg.settle):
		return nil
	}
}

// collect asks the processes what their sockets got.
func (s *swarm) collect(o *outcome) error {
	until := time.Now().UnixMicro()
	for i, p := range s.children {
		if err := p.in.Encode(until); err != nil {
			return fmt.Errorf("process %d: %w", i, err)
		}
	}
	for i, p := range s.children {
		var r report
		if err := p.out.Decode(&r); err != nil {
			return fmt.Errorf("process %d did not report: %w", i, err)
		}
		o.tally.add(r.Tally)
		o.latency.Merge(hdrhistogram.Import(r.Latency))
		o.holders.CPU += r.CPU
		o.holders.RSS += r.RSS
	}
	return nil
}

func (s *swarm) usage() []usage.Usage {
	out := make([]usage.Usage, len(s.stack.Parts))
	for i, p := range s.stack.Parts {
		out[i], _ = usage.Of(p.PID) // one that has ended shows as zeros
	}
	return out
}

func (s *swarm) parts() []part {
	end := s.usage()
	out := make([]part, len(end))
	for i, p := range s.stack.Parts {
		out[i] = part{p.Name, s.idle[i].RSS, s.full[i].RSS, end[i].RSS, end[i].CPU - s.full[i].CPU}
	}
	return out
}

func (s *swarm) kill() {
	for _, p := range s.children {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

// text is the report.
func (o *outcome) text(cfg config) string {
	var b strings.Builder
	seconds := o.produced.Seconds()
	fmt.Fprintf(&b, "%d sockets in %d processes, connected in %s, %.0f a second\n", cfg.sockets, cfg.processes,
		o.connect.Round(time.Millisecond), float64(cfg.sockets)/o.connect.Seconds())
	fmt.Fprintf(&b, "%d deliveries in %.1f s, %.0f a second\n", o.tally.Received, seconds, float64(o.tally.Received)/seconds)
	fmt.Fprintf(&b, "missing %d, twice %d, out of order %d, extra %d, gaps %d, closed %d, sockets that missed something %d\n",
		o.tally.Missing, o.tally.Twice, o.tally.Order, o.tally.Extra, o.tally.Gaps, o.tally.Closed, o.tally.Unserved)
	ms := func(q float64) float64 { return float64(o.latency.ValueAtQuantile(q)) / 1000 }
	fmt.Fprintf(&b, "latency from production to arrival, ms: p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n\n",
		ms(50), ms(90), ms(99), ms(99.9), float64(o.latency.Max())/1000)
	b.WriteString("| process | CPU | deliveries per CPU-second | RSS before | connected | end | per socket |\n|---|---|---|---|---|---|---|\n")
	const mib = 1 << 20
	for _, p := range o.parts {
		fmt.Fprintf(&b, "| %s | %.2f s | %.0f | %.1f MiB | %.1f MiB | %.1f MiB | %.2f KB |\n", p.name, p.cpu.Seconds(),
			float64(o.tally.Received)/max(p.cpu.Seconds(), 0.01), float64(p.idle)/mib, float64(p.full)/mib, float64(p.last)/mib,
			float64(p.full-p.idle)/1000/float64(cfg.sockets))
	}
	fmt.Fprintf(&b, "| this client | %.2f s | %.0f | | %.1f MiB | %.1f MiB | %.2f KB |\n", o.holders.CPU.Seconds(),
		float64(o.tally.Received)/max(o.holders.CPU.Seconds(), 0.01), float64(o.holding)/mib, float64(o.holders.RSS)/mib, float64(o.sockets)/1000/float64(cfg.sockets))
	return b.String()
}

// write keeps the report and the histogram.
func (o *outcome) write(cfg config, text string) error {
	if err := os.WriteFile(filepath.Join(cfg.out, "summary.md"), []byte(text), 0o644); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(cfg.out, "latency.hgrm"))
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = o.latency.PercentilesPrint(out, 5, 1000)
	return err
}
