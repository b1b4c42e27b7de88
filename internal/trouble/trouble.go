// Package trouble logs what fails again and again: its first failure, then a line now
// and then with how often it failed, and once that it works again. What fails and
// works by turns gets no more lines than that.
package trouble

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// every is the least time between two lines that something fails.
const every = 30 * time.Second

// Trouble is one thing that may fail.
type Trouble struct {
	log          *slog.Logger
	fails, works string
	level        slog.Level

	failing atomic.Bool // so that what works costs a load

	mu     sync.Mutex
	since  time.Time // when it began to fail; zero while it works
	told   time.Time // when the last line that it fails came
	count  int       // failures since it began
	silent int       // failures since told
	said   bool      // of the failures since it began there was a line
}

// New returns a Trouble that logs fails as a warning, and works when that is over.
func New(log *slog.Logger, fails, works string) *Trouble {
	return &Trouble{log: log, fails: fails, works: works, level: slog.LevelWarn}
}

// NewError is New for what an operator has to look after.
func NewError(log *slog.Logger, fails, works string) *Trouble {
	t := New(log, fails, works)
	t.level = slog.LevelError
	return t
}

// Saw takes in how an attempt went. args go into the line if it failed.
func (t *Trouble) Saw(err error, args ...any) {
	if err != nil {
		t.Failed(err, args...)
	} else {
		t.Worked()
	}
}

// Failed takes in a failure.
func (t *Trouble) Failed(err error, args ...any) {
	lasts, leftOut, say := t.fail(time.Now())
	if !say {
		return
	}
	args = append(args[:len(args):len(args)], "err", err)
	if leftOut > 0 {
		args = append(args, "for", lasts.Round(time.Millisecond), "left_out", leftOut)
	}
	t.log.Log(context.Background(), t.level, t.fails, args...)
}

// fail counts a failure, and tells whether there is to be a line, and of what.
func (t *Trouble) fail(now time.Time) (lasts time.Duration, leftOut int, say bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		t.since, t.count, t.said = now, 0, false
		t.failing.Store(true)
	}
	t.count++
	if !t.told.IsZero() && now.Sub(t.told) < every {
		t.silent++
		return 0, 0, false
	}
	leftOut = t.silent
	t.told, t.silent, t.said = now, 0, true
	return now.Sub(t.since), leftOut, true
}

// Worked takes in that it worked. Of a nil Trouble nothing is told.
func (t *Trouble) Worked() {
	if t == nil || !t.failing.Load() {
		return
	}
	if lasted, count, say := t.end(time.Now()); say {
		t.log.Info(t.works, "after", lasted.Round(time.Millisecond), "failures", count)
	}
}

// end takes in that it works, and tells whether there is to be a line. Failures that
// had none need none for their end.
func (t *Trouble) end(now time.Time) (lasted time.Duration, count int, say bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return 0, 0, false
	}
	lasted, count, say = now.Sub(t.since), t.count, t.said
	t.since = time.Time{}
	t.failing.Store(false)
	return lasted, count, say
}

// Failing reports whether it fails.
func (t *Trouble) Failing() bool { return t.failing.Load() }
