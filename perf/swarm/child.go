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
}

// report is what a process says in the end.
type report struct {
	Tally   tally
	Latency *hdrhistogram.Snapshot // µs
	CPU     time.Duration
	RSS     int64
	Sockets int64 // by how much RSS grew while sockets were connected
}

// holder holds a share's sockets.
type holder struct {
	share
	loops   []*loop
	sockets []*socket
}

const descriptors = 100 // that a process needs for other things

// child reads a share from in, connects, says so on out, and judges and reports when
// there is another line on in.
func child(in io.Reader, out io.Writer) error {
	d := json.NewDecoder(in)
	h := &holder{}
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
	if err := h.connect(); err != nil {
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
	var until int64
	if err := d.Decode(&until); err != nil {
		return fmt.Errorf("wait for the end: %w", err)
	}
	r, err := h.finish(until)
	if err != nil {
		return err
	}
	return e.Encode(r)
}

func (h *holder) connect() error {
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop()
		if err != nil {
			return err
		}
		h.loops = append(h.loops, l)
	}
	h.sockets = make([]*socket, h.Count)
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
	s := &socket{}
	if h.Streams > 0 {
		s.stream = int32(n % h.Streams)
	}
	var err error
	if s.fd, s.part, err = dial(h.Local[i%len(h.Local)], h.Gateways[n%len(h.Gateways)], feed.User(h.Run, n)); err != nil {
		return err
	}
	if h.Connect {
		request := masked(opText, fmt.Sprintf(`{"id":1,"connect":{"name":%q}}`, feed.User(h.Run, n)))
		if _, err := unix.Write(s.fd, request); err != nil {
			return fmt.Errorf("send connect: %w", err)
		}
	}
	s.part = bytes.Clone(s.part) // of a larger buffer
	h.sockets[i] = s
	return h.loops[i%len(h.loops)].add(s)
}

// finish ends the loops, asks what was due, and judges.
func (h *holder) finish(until int64) (r report, err error) {
	all := hdrhistogram.New(1, longest, 3)
	for _, l := range h.loops {
		l.wait()
		r.Tally.add(l.tally)
		all.Merge(l.latency)
	}
	r.Latency = all.Export()
	if err := h.judge(until, &r.Tally); err != nil {
		return r, err
	}
	mine, err := usage.Of(os.Getpid())
	r.CPU, r.RSS = mine.CPU, mine.RSS
	return r, err
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
		s.judge(due[i][0], due[i][1], t)
	}
	return nil
}
