package ops

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/internal/bubble"
)

// ask returns what is wrong, by name, and how long the answer took.
func ask(r *Readiness) (map[string]string, time.Duration) {
	began := time.Now()
	wrong := make(map[string]string)
	for _, a := range r.Ask() {
		if a.Err != nil {
			wrong[a.Name] = a.Err.Error()
		}
	}
	return wrong, time.Since(began)
}

// However many ask, others are asked once a second, and a local state is of now.
func TestReadinessIsShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var stopping atomic.Bool
		r := Keep(
			Check{Name: "redis", Do: func(context.Context) error { calls.Add(1); time.Sleep(10 * time.Millisecond); return nil }},
			Check{Name: "us", Local: true, Do: func(context.Context) error {
				if stopping.Load() {
					return errors.New("stopping")
				}
				return nil
			}})
		for second := range int32(3) {
			var callers sync.WaitGroup
			for range 50 {
				callers.Go(func() {
					for range 20 {
						if wrong, _ := ask(r); len(wrong) > 0 {
							t.Errorf("wrong: %v", wrong)
						}
					}
				})
			}
			callers.Wait()
			if got := calls.Load(); got != second+1 {
				t.Errorf("after 1,000 askers %d calls, want %d", got, second+1)
			}
			time.Sleep(checkEvery)
		}
		stopping.Store(true)
		if wrong, _ := ask(r); wrong["us"] != "stopping" {
			t.Errorf("the state of this moment: %v", wrong)
		}
	})
}

// A check that hangs, whether it minds its context or not, holds up nobody; it is told
// after a while, and forgotten when it works again.
func TestReadinessOfWhatHangs(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			var hangs atomic.Bool
			release := make(chan struct{})
			r := Keep(Check{Name: "kafka", Do: func(context.Context) error { return nil }}, Check{Name: "redis", Do: func(ctx context.Context) error {
				switch {
				case !hangs.Load():
				case stubborn:
					<-release
				default:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}})
			within := func(want string) {
				t.Helper()
				wrong, took := ask(r)
				if took >= time.Second {
					t.Errorf("answered after %v", took)
				}
				if !strings.Contains(wrong["redis"], want) || want == "" && wrong["redis"] != "" || wrong["kafka"] != "" {
					t.Errorf("wrong: %v, want %q", wrong, want)
				}
			}
			within("")
			hangs.Store(true)
			time.Sleep(checkEvery)
			within("") // what it said last
			time.Sleep(checkTimeout)
			if stubborn {
				within("no answer for 4.4s")
			} else {
				within("deadline exceeded")
			}
			hangs.Store(false)
			close(release)
			time.Sleep(checkTimeout + checkEvery)
			within("")
		})
	}
}

// What has never answered is not ready.
func TestReadinessBeforeTheFirstAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := Keep(Check{Name: "redis", Do: func(ctx context.Context) error { <-ctx.Done(); return nil }})
		if wrong, took := ask(r); !strings.Contains(wrong["redis"], "no answer") || took >= time.Second {
			t.Errorf("after %v: %v", took, wrong)
		}
		time.Sleep(checkTimeout)
	})
}
