package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Copies keeps copies of a program running, and starts one again when it ends.
// When they are to stop, their standard input ends: signals would reach them
// twice where a whole group of processes gets them. If we are killed, they are too.
type Copies struct {
	N       int
	Command func(i int) *exec.Cmd // of copy i, for each start
	Fatal   int                   // a copy that exits with this would do so again: Run fails
	Ended   func(i int)           // told of each that ended by itself; may be nil
	Check   func(i int) error     // nil while copy i works, asked every few seconds; nobody looks if nil
	Log     *slog.Logger          // slog.Default() if nil

	checkEvery time.Duration // checkEvery, but in tests

	mu      sync.Mutex
	running map[*os.Process]bool
}

// Signal sends a signal to each copy that runs.
func (c *Copies) Signal(s os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for p := range c.running {
		if e := p.Signal(s); !errors.Is(e, os.ErrProcessDone) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// note takes in that a copy has started, or ended.
func (c *Copies) note(p *os.Process, runs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = make(map[*os.Process]bool)
	}
	if c.running[p] = runs; !runs {
		delete(c.running, p)
	}
}

// Between two starts of a copy. The pause doubles, until one ran for long enough.
const (
	firstPause = 100 * time.Millisecond
	longPause  = 10 * time.Second
	longEnough = time.Minute

	checkEvery = 5 * time.Second
	// A copy that worked, and whose checks failed so often in a row, is killed.
	checksFailed = 6
)

// Run returns when all have ended, after ctx did, or one failed for good.
func (c *Copies) Run(ctx context.Context) error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range c.N {
		g.Go(func() error { return c.keep(ctx, i) })
	}
	return g.Wait()
}

func (c *Copies) keep(ctx context.Context, i int) error {
	runtime.LockOSThread() // a copy is killed when the thread that started it ends
	defer runtime.UnlockOSThread()
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longPause) {
		began := time.Now()
		err := c.once(ctx, i)
		exit, _ := errors.AsType[*exec.ExitError](err)
		switch {
		case err != nil && (ctx.Err() != nil || exit != nil && exit.ExitCode() == c.Fatal):
			return fmt.Errorf("process %d: %w", i, err)
		case ctx.Err() != nil:
			return nil
		case time.Since(began) > longEnough:
			pause = firstPause
		}
		if c.Ended != nil {
			c.Ended(i)
		}
		c.Log.Warn("process ended; starting it again", "process", i, "in", pause, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// once runs copy i to its end.
func (c *Copies) once(ctx context.Context, i int) error {
	cmd := c.Command(i)
	tie(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.Log.Info("process started", "process", i, "pid", cmd.Process.Pid)
	c.note(cmd.Process, true)
	defer c.note(cmd.Process, false)
	defer context.AfterFunc(ctx, func() { in.Close() })()
	if c.Check != nil {
		ended, end := context.WithCancel(ctx)
		defer end()
		go c.watch(ended, i, cmd.Process)
	}
	return cmd.Wait()
}

// watch kills a copy that does not work any more, until ctx ends.
func (c *Copies) watch(ctx context.Context, i int, p *os.Process) {
	tick := time.NewTicker(cmp.Or(c.checkEvery, checkEvery))
	defer tick.Stop()
	for worked, failed := false, 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := c.Check(i)
		if err == nil {
			worked, failed = true, 0
			continue
		}
		if failed++; worked && failed == checksFailed && ctx.Err() == nil {
			c.Log.Error("process does not work any more; killing it", "process", i, "pid", p.Pid, "err", err)
			p.Kill()
			return
		}
	}
}
