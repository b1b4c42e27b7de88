package run

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sh runs a script; `read x` lasts until the copy is to stop.
func sh(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func TestCopiesAreStartedAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starts, ended atomic.Int32
	c := Copies{
		N: 3, Fatal: 2,
		Command: func(i int) *exec.Cmd {
			switch n := starts.Add(1); {
			case i != 1:
				return sh("read x; exit 0")
			case n <= 4: // at the latest the second start of this one
				return sh(fmt.Sprint("exit ", n%2)) // an end without an error is one, too
			}
			cancel()
			return sh("read x; exit 0")
		},
		Ended: func(i int) {
			if i != 1 {
				t.Errorf("copy %d ended", i)
			}
			ended.Add(1)
		},
	}
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if got := ended.Load(); got < 1 || got != starts.Load()-3 {
		t.Errorf("%d starts, %d ends of their own", starts.Load(), got)
	}
}

func TestCopiesFail(t *testing.T) {
	c := Copies{N: 2, Fatal: 2, Command: func(i int) *exec.Cmd { return sh([]string{"read x; exit 0", "exit 2"}[i]) }}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "process 1: exit status 2") {
		t.Errorf("Run = %v, want process 1: exit status 2", err)
	}
}

func TestCopyThatStopsBadly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := func(int) *exec.Cmd { cancel(); return sh("read x; exit 3") }
	c := Copies{N: 1, Command: cancelled}
	if err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Run = %v, want exit status 3", err)
	}
}

// A copy that hangs is killed, and started again; one that has not begun to work yet
// is waited for.
func TestCopyThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starts, checks atomic.Int32
	c := Copies{
		N: 1, Fatal: 2, checkEvery: time.Millisecond,
		Command: func(int) *exec.Cmd {
			if starts.Add(1) == 2 {
				cancel()
				return sh("read x; exit 0")
			}
			return sh("exec sleep 600")
		},
		Check: func(int) error {
			if n := checks.Add(1); n == 3*checksFailed {
				return nil // it works, at last
			}
			return errors.New("no answer")
		},
	}
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if n := checks.Load(); starts.Load() != 2 || n < 4*checksFailed {
		t.Errorf("%d starts and %d checks, want 2 and at least %d", starts.Load(), n, 4*checksFailed)
	}
}
