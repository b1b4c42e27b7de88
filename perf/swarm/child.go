//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"eventstream/perf/feed"
	"eventstream/perf/usage"
)

// share is what one process is to do.
type share struct {
	Run      string
	First    int // number of the first subscriber
	Count    int
	Streams  int // 0: everything is for all
	Gateways []netip.AddrPort
	Local    []netip.Addr
	Parallel int // handshakes at the same time
	Feed     string
	Connect  bool // say who we are in a message, as centrifuge wants it
	Storm    bool // they will be cut off
	None     bool // nothing is for them
}

// command is what a process is told after that, one or the other.
type command struct {
	Away  time.Duration // cut all sockets off, and have them come back after so long
	Until int64         // Unix microseconds: report on what was due before
}

// report is what a process says in the end.
type report struct {
	Tally   tally
	Latency *hdrhistogram.Snapshot // µs
	CPU     time.Duration
	RSS     int64
	Sockets int64 // by how much RSS grew while sockets were connected

	Back   time.Duration // from the end of the time away until all have been greeted
	Caught time.Duration // until the last event came that was produced before
}

// holder holds a share's sockets.
type holder struct {
	share
	loops   []*loop
	sockets []*socket
	sum     report                  // of loops that have ended
	latency *hdrhistogram.Histogram // µs
}

const descriptors = 100 // that a process needs for other things

// child reads a share from in, connects, says so on out, and does what it is told by
// further lines, until one has it judge and report.
func child(in io.Reader, out io.Writer) error {
	d := json.NewDecoder(in)
	h := &holder{latency: hdrhistogram.New(1, longest, 3)}
	if err := d.Decode(&h.share); err != nil {
		return fmt.Errorf("read the share: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(h.Count+descriptors) {
		return fmt.Errorf("%d sockets in a process that may have %d descriptors: use more processes, or raise `ulimit -n`", h.Count, limit.Cur)
	}
	before, err := usage.Of(os.Getpid())
	if err != nil {
		return err
	}
	if err := h.connect(0); err != nil {
		return err
	}
	debug.FreeOSMemory() // what handshakes left behind
	mine, err := usage.Of(os.Getpid())
	if err != nil {
		return err
	}
	e := json.NewEncoder(out)
	if err := e.Encode(report{RSS: mine.RSS, Sockets: mine.RSS - before.RSS}); err != nil {
		return err
	}
	for {
		var c command
		if err := d.Decode(&c); err != nil {
			return fmt.Errorf("wait for the end: %w", err)
		}
		if c.Until > 0 {
			r, err := h.finish(c.Until)
			if err != nil {
				return err
			}
			return e.Encode(r)
		}
		if err := h.storm(c.Away); err != nil {
			return err
		}
		if err := e.Encode(h.sum); err != nil {
			return err
		}
	}
}

// connect connects all that have not failed. cut is when they began to come back,
// in Unix microseconds, 0 the first time.
func (h *holder) connect(cut int64) error {
	h.loops = nil
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop()
		if err != nil {
			return err
		}
		l.cut = cut
		h.loops = append(h.loops, l)
	}
	if h.sockets == nil {
		h.sockets = make([]*socket, h.Count)
	}
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(h.Parallel)
	for i := range h.sockets {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			if err := h.open(i); err != nil {
				return fmt.Errorf("subscriber %d: %w", h.First+i, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (h *holder) open(i int) error {
	n := h.First + i
	s := h.sockets[i]
	if s == nil {
		s = h.socket(n)
		h.sockets[i] = s
	}
	if s.failed {
		return nil
	}
	name := feed.User(h.Run, n)
	var err error
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		s.fd, s.part, err = dial(h.Local[i%len(h.Local)], h.Gateways[n%len(h.Gateways)], "subscriber_id="+url.QueryEscape(name)+s.resume.query())
		if err == nil {
			break
		}
		if !errors.Is(err, errBusy) || time.Since(began) > patience*time.Second {
			return err
		}
	}
	if h.Connect {
		if _, err := unix.Write(s.fd, masked(opText, s.resume.request(name))); err != nil {
			return fmt.Errorf("send connect: %w", err)
		}
	}
	s.part = bytes.Clone(s.part) // of a larger buffer
	return h.loops[i%len(h.loops)].add(s)
}

func (h *holder) socket(n int) *socket {
	s := &socket{}
	if h.Streams > 0 {
		s.stream = int32(n % h.Streams)
	}
	if h.Storm {
		s.resume = &place{}
	}
	return s
}

// finish ends the loops, asks what was due, and judges.
func (h *holder) finish(until int64) (r report, err error) {
	h.end()
	r = h.sum
	r.Latency = h.latency.Export()
	if err := h.judge(until, &r.Tally); err != nil {
		return r, err
	}
	mine, err := usage.Of(os.Getpid())
	r.CPU, r.RSS = mine.CPU, mine.RSS
	return r, err
}

// end ends the loops.
func (h *holder) end() {
	for _, l := range h.loops {
		l.wait()
		h.sum.Tally.add(l.tally)
		h.latency.Merge(l.latency)
		h.sum.Caught = max(h.sum.Caught, time.Duration(l.caught-l.cut)*time.Microsecond)
	}
}

func (h *holder) judge(until int64, t *tally) error {
	asked := make([][3]int64, len(h.sockets))
	for i, s := range h.sockets {
		if s.since == 0 {
			s.failed, s.since = true, until
		}
		asked[i] = [3]int64{int64(s.stream), s.since + 1, until}
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	resp, err := http.Post(h.Feed+"/between", "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask what was due: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("ask what was due: " + resp.Status)
	}
	var due [][2]int32
	if err := json.NewDecoder(resp.Body).Decode(&due); err != nil {
		return fmt.Errorf("ask what was due: %w", err)
	}
	for i, s := range h.sockets {
		if h.None {
			due[i] = [2]int32{1, 0}
			t.Extra += int64(s.last)
		}
		s.judge(due[i][0], due[i][1], t)
	}
	return nil
}
