package ops

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Check tells whether something works: nil, or what is wrong with it. An error that
// IsDegraded says that a part does not work, while the rest does: that is told, and
// does not make a service unready.
type Check struct {
	Name  string
	Do    func(ctx context.Context) error
	Local bool // it asks nobody: each caller gets the state of this moment
}

// degraded is what does not work, while the rest of a service does.
type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }

// Degraded marks what a Check found as something that leaves the rest of the service
// working. Of nil it is nil.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return degraded{err}
}

// IsDegraded reports whether err, or one that it wraps, was marked by Degraded.
func IsDegraded(err error) bool {
	_, ok := errors.AsType[degraded](err)
	return ok
}

// Answer is what a Check said last.
type Answer struct {
	Name string
	Err  error
}

const (
	checkEvery   = time.Second            // whoever asks, and however often, the next check begins no sooner
	checkWait    = 700 * time.Millisecond // for one that is under way; then the answer is the last one
	checkTimeout = 3 * time.Second        // one that takes longer counts as failed
)

// Readiness is the state of some Checks. It is kept, and shared by all who ask: they
// cost those who are checked one call a second at most, and are answered within a
// second even if a check hangs.
type Readiness struct{ all []*kept }

// Keep returns the Readiness that checks make up. A check runs when somebody asks,
// in a goroutine of its own: never two of the same at once.
func Keep(checks ...Check) *Readiness {
	r := &Readiness{}
	for _, c := range checks {
		r.all = append(r.all, &kept{Check: c})
	}
	return r
}

// Ask returns what each check says.
func (r *Readiness) Ask() []Answer {
	underWay := make([]<-chan struct{}, len(r.all))
	for i, k := range r.all {
		underWay[i] = k.refresh()
	}
	wait := time.NewTimer(checkWait)
	defer wait.Stop()
	answers := make([]Answer, len(r.all))
	for i, k := range r.all {
		select {
		case <-underWay[i]:
		case <-wait.C:
			wait.Reset(0) // those that follow have had their time, too
		}
		answers[i] = Answer{k.Name, k.state()}
	}
	return answers
}

// kept is one Check with what it said.
type kept struct {
	Check

	mu    sync.Mutex
	done  chan struct{} // closed at the end of the run that is under way, or of the last one
	busy  bool
	began time.Time // of that run
	known bool      // there is a result
	err   error
}

// refresh begins a run, if it is time for one. The channel is closed when there is
// nothing to wait for.
func (k *kept) refresh() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy || !k.Local && k.known && time.Since(k.began) < checkEvery {
		return k.done
	}
	k.busy, k.began, k.done = true, time.Now(), make(chan struct{})
	go k.run(k.done)
	return k.done
}

func (k *kept) run(done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	err := k.Do(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy, k.known, k.err = false, true, err
	close(done)
}

// state returns what the last run said, unless the one under way takes too long.
func (k *kept) state() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	since := time.Since(k.began).Round(time.Millisecond)
	if k.busy && (!k.known || since >= checkTimeout) {
		return fmt.Errorf("no answer for %v", since)
	}
	return k.err
}
