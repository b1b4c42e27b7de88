//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"eventstream/perf/feed"
	"eventstream/perf/stack"
	"eventstream/perf/usage"
)

// swarm is a run.
type swarm struct {
	cfg      config
	server   string
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
	cfg      config
	server   string
	connect  time.Duration
	produced time.Duration
	events   int // of the first stream
	tally    tally
	latency  *hdrhistogram.Histogram
	storm    storm
	holders  usage.Usage // of all processes that held sockets, together
	holding  int64       // what they had when all were connected, and nothing was sent yet
	sockets  int64       // what of that is for sockets
	parts    []part
}

// storm is what happened when all sockets were cut off and came back.
type storm struct {
	back, caught time.Duration   // until all were greeted, and had what was produced before
	cpu          []time.Duration // of the parts, until all were greeted
}

// part is one process of the services.
type part struct {
	name             string
	idle, full, last int64 // RSS before, with all connected, at the end
	cpu              time.Duration
}

func run(ctx context.Context, cfg config, server string) (o *outcome, err error) {
	s := &swarm{cfg: cfg, server: server, name: fmt.Sprintf("swarm_%d", time.Now().UnixMilli())}
	if err := s.start(ctx); err != nil {
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

// start starts the server that is measured.
func (s *swarm) start(ctx context.Context) (err error) {
	cfg := stack.Config{
		Dir: filepath.Join(s.cfg.out, s.server, "logs"), Name: s.name, Gateways: s.cfg.gateways, Processes: s.cfg.shared,
		Env: []string{"EVENTSTREAM_LOG_LEVEL=warn", fmt.Sprint("EVENTSTREAM_MAX_CONNS=", perGateway), "EVENTSTREAM_HANDSHAKE_RATE=0"},
	}
	if s.server == ours {
		if cfg.Exe, err = filepath.Abs(s.cfg.exe); err == nil {
			s.stack, err = stack.Ours(ctx, cfg)
		}
		return err
	}
	peer, err := filepath.Abs(s.cfg.peer)
	if err == nil {
		s.stack, err = stack.Peer(ctx, cfg, peer, s.server, s.recipients())
	}
	return err
}

func (s *swarm) recipients() stack.Recipients {
	switch {
	case s.cfg.each:
		return stack.Each
	case s.cfg.none:
		return stack.Matched
	}
	return stack.All
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
		if s.cfg.none {
			out[i].MinAmount = float64(1000 + i) // perf/feed's events have less
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

	o := &outcome{cfg: s.cfg, server: s.server, latency: hdrhistogram.New(1, longest, 3)}
	s.idle = s.usage()
	if err := s.connect(ctx, o, "http://"+l.Addr().String()); err != nil {
		return nil, err
	}
	s.full = s.usage()
	if err := s.produce(ctx, f, o); err != nil {
		return nil, err
	}
	_, o.events = f.Between(0, 0, math.MaxInt64)
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

// spawn starts process i, which connects its share from addresses of its own. With
// more than half of an address's ports in use, finding another takes the kernel long.
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
		Storm: s.cfg.away > 0, None: s.cfg.none,
		Local: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), netip.AddrFrom4([4]byte{127, 0, 2, byte(1 + i)})}, Parallel: s.cfg.parallel, Feed: feedURL, Connect: s.server == "centrifuge",
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
	profiled := make(chan error, 1)
	if s.cfg.profile {
		go func() { profiled <- s.profiles(ctx, s.cfg.duration) }()
	} else {
		profiled <- nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-produced:
		return err
	case <-time.After(s.cfg.duration):
	}
	if s.cfg.away > 0 {
		if err := s.cutOff(o); err != nil {
			return err
		}
	}
	f.Stop()
	o.produced = time.Since(began)
	if err := cmp.Or(<-produced, <-profiled); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.cfg.settle):
		return nil
	}
}

// cutOff has all sockets drop and come back, while events are produced.
func (s *swarm) cutOff(o *outcome) error {
	before := s.usage()
	for i, p := range s.children {
		if err := p.in.Encode(command{Away: s.cfg.away}); err != nil {
			return fmt.Errorf("process %d: %w", i, err)
		}
	}
	for i, p := range s.children {
		var r report
		if err := p.out.Decode(&r); err != nil {
			return fmt.Errorf("the sockets of process %d did not come back: %w", i, err)
		}
		o.storm.back = max(o.storm.back, r.Back)
	}
	for i, u := range s.usage() {
		o.storm.cpu = append(o.storm.cpu, u.CPU-before[i].CPU)
	}
	return nil
}

// collect asks the processes what their sockets got.
func (s *swarm) collect(o *outcome) error {
	until := time.Now().UnixMicro()
	for i, p := range s.children {
		if err := p.in.Encode(command{Until: until}); err != nil {
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
		o.storm.caught = max(o.storm.caught, r.Caught)
		o.holders.CPU += r.CPU
		o.holders.RSS += r.RSS
	}
	return nil
}

func (s *swarm) usage() []usage.Usage {
	out := make([]usage.Usage, len(s.stack.Parts))
	for i, p := range s.stack.Parts {
		pids := []int{p.PID}
		if s.cfg.shared > 1 && i < s.cfg.gateways { // those come first
			pids = append(pids, usage.Children(p.PID)...)
		}
		for _, pid := range pids {
			u, _ := usage.Of(pid) // one that has ended shows as zeros
			out[i].CPU += u.CPU
			out[i].RSS += u.RSS
		}
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
