//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"eventstream/perf/feed"
	"eventstream/perf/visit"
)

// load is what the flapping process is to do.
type load struct {
	Run         string // subscribers are users of this feed
	Gateways    []string
	Connects    int
	Subscribers int
	First       int // number of the first subscriber
	How         string
	Cursors     bool
	Parallel    int
	Pace        float64
	Until       time.Time
}

// flapped is what it did.
type flapped struct {
	Connected int
	Refused   map[int]int // by status; 0 if a handshake was not answered
	Failed    int
	First     string // failure or refusal
	Took      time.Duration
}

// add adds what was done in another round.
func (f *flapped) add(o flapped) {
	if f.Refused == nil {
		f.Refused = make(map[int]int)
	}
	for status, n := range o.Refused {
		f.Refused[status] += n
	}
	f.Connected, f.Failed, f.Took, f.First = f.Connected+o.Connected, f.Failed+o.Failed, f.Took+o.Took, cmp.Or(f.First, o.First)
}

// flap has a process of its own do the load.
func flap(ctx context.Context, l load) (f flapped, err error) {
	exe, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", exe, childArg)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however we end
	in, err := cmd.StdinPipe()
	if err != nil {
		return f, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return f, err
	}
	if err := cmd.Start(); err != nil {
		return f, fmt.Errorf("start the process that flaps: %w", err)
	}
	err = errors.Join(json.NewEncoder(in).Encode(l), json.NewDecoder(out).Decode(&f), cmd.Wait())
	if err != nil {
		return f, fmt.Errorf("the process that flaps: %w", err)
	}
	return f, nil
}

// child reads a load from in, does it, and says on out what it did.
func child(ctx context.Context, in io.Reader, out io.Writer) error {
	var l load
	if err := json.NewDecoder(in).Decode(&l); err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	ctx, cancel := context.WithDeadline(ctx, l.Until)
	defer cancel()
	f := &flapper{load: l, done: flapped{Refused: make(map[int]int)}, began: time.Now()}
	var all sync.WaitGroup
	for w := range l.Parallel {
		all.Go(func() { f.work(ctx, w) })
	}
	all.Wait()
	f.done.Took = time.Since(f.began)
	return json.NewEncoder(out).Encode(f.done)
}

type flapper struct {
	load
	began time.Time

	mu   sync.Mutex
	done flapped
}

// work makes one worker's part of the connections: all of a subscriber, one after the
// other, and then those of the next one.
func (f *flapper) work(ctx context.Context, worker int) {
	each := f.Connects / f.Subscribers
	var c visit.Client
	for i, last := worker, -1; i < f.Connects && ctx.Err() == nil; i += f.Parallel {
		turn := i / f.Parallel
		subscriber := (worker + turn/each*f.Parallel) % f.Subscribers
		if subscriber != last || !f.Cursors {
			c.Cursor, last = "", subscriber
		}
		c.SSE = f.How == "sse" || f.How == "mixed" && turn%2 == 1
		f.wait(ctx, i)
		err := c.Try(ctx, f.Gateways[(worker+turn)%len(f.Gateways)], feed.User(f.Run, f.First+subscriber))
		c.Cut()
		if ctx.Err() == nil {
			f.count(err)
		}
	}
}

// wait keeps the pace.
func (f *flapper) wait(ctx context.Context, i int) {
	if f.Pace == 0 {
		return
	}
	select {
	case <-time.After(time.Until(f.began.Add(time.Duration(float64(i) / f.Pace * float64(time.Second))))):
	case <-ctx.Done():
	}
}

func (f *flapper) count(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.done.Connected++
		return
	}
	if f.done.First == "" {
		f.done.First = err.Error()
	}
	if r, ok := errors.AsType[visit.Refused](err); ok {
		f.done.Refused[r.Status]++
	} else {
		f.done.Failed++
	}
}
