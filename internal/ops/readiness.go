package ops

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Check returns whether something works: nil, or the problem. An error that IsDegraded
// means that only a part does not work: it is reported, but the service stays ready.
type Check struct {
	Name  string
	Do    func(ctx context.Context) error
	Local bool // asks no other process, so it runs for each caller
}

// degraded is a problem that leaves the rest of a service working.
type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }

// Degraded marks a Check's error as one that leaves the rest of the service working.
// Degraded(nil) is nil.
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

// Answer is the last result of a Check.
type Answer struct {
	Name string
	Err  error
}

const (
	checkEvery   = time.Second            // minimum time between two runs of a check, however many callers
	checkWait    = 700 * time.Millisecond // how long to wait for a run; then the previous result is used
	checkTimeout = 3 * time.Second        // a run that takes longer has failed
)

// Readiness holds the results of some Checks for all callers. A checked server gets at
// most one call a second, and callers an answer within a second even if a check hangs.
type Readiness struct{ all []*kept }

// Keep returns a Readiness of checks. A check runs when a caller asks, in a goroutine
// of its own, and never twice at once.
func Keep(checks ...Check) *Readiness {
	r := &Readiness{}
	for _, c := range checks {
		r.all = append(r.all, &kept{Check: c})
	}
	return r
}

// Ask returns the result of each check.
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
			wait.Reset(0) // the remaining checks have had the same time
		}
		answers[i] = Answer{k.Name, k.state()}
	}
	return answers
}

// kept is one Check with its last result.
type kept struct {
	Check

	mu    sync.Mutex
	done  chan struct{} // closed at the end of the current or last run
	busy  bool
	began time.Time // start of that run
	known bool      // there is a result
	err   error
}

// refresh starts a run, if one is due. The channel is closed if there is
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

// state returns the last result, or an error if the current run takes too long.
func (k *kept) state() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	since := time.Since(k.began).Round(time.Millisecond)
	if k.busy && (!k.known || since >= checkTimeout) {
		return fmt.Errorf("no answer for %v", since)
	}
	return k.err
}
