package watchdog

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/internal/bubble"
)

// watching runs f beside a Watchdog, in virtual time, and returns what it logged.
func watching(t *testing.T, f func(w *Watchdog)) string {
	var out bytes.Buffer
	bubble.Test(t, func(t *testing.T) {
		w := New(slog.New(slog.NewJSONHandler(&out, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		f(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return out.String()
}

// alive looks at every moment until d has gone by.
func alive(t *testing.T, w *Watchdog, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		if err := w.Alive(); err != nil {
			t.Errorf("stuck: %v", err)
			return
		}
	}
}

func dead(t *testing.T, w *Watchdog, want string) {
	t.Helper()
	if err := w.Alive(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Alive = %v, want %q", err, want)
	}
}

func TestLoop(t *testing.T) {
	log := watching(t, func(w *Watchdog) {
		p := w.Loop("the loop")
		for range 100 {
			p.Beat()
			alive(t, w, 3*time.Second)
		}
		alive(t, w, limit-2*limit/looks)
		time.Sleep(3 * limit / looks)
		dead(t, w, "the loop has not moved for 1m")
		time.Sleep(limit)
		dead(t, w, "the loop has not moved for 2m")
		p.Beat()
		time.Sleep(2 * limit / looks)
		alive(t, w, time.Second)
		resume := p.Rest()
		alive(t, w, time.Hour)
		resume()
		time.Sleep(2 * limit)
		dead(t, w, "the loop")
		p.Done()
		alive(t, w, time.Hour)
	})
	if n := strings.Count(log, "is stuck"); n != 2 || !strings.Contains(log, "TestLoop") || strings.Count(log, "moves again") != 1 {
		t.Errorf("logged %d times that it is stuck, want twice, with goroutines, and once that it moves:\n%.1000s", n, log)
	}
}

// Without virtual time, which stands still while somebody waits for a mutex.
func TestLock(t *testing.T) {
	w := New(slog.New(slog.DiscardHandler))
	var mu sync.RWMutex
	p := w.Lock("the lock", &mu)
	look := func(n int) {
		for range n {
			w.look()
		}
	}
	taken := func() { // until the last probe is through
		for p.probing.Load() {
			runtime.Gosched()
		}
	}
	for range 3 * looks {
		look(1)
		taken()
	}
	if err := w.Alive(); err != nil {
		t.Error(err)
	}
	mu.RLock() // who reads keeps writers out
	look(looks + 2)
	dead(t, w, "the lock has not moved")
	mu.RUnlock()
	taken()
	look(1)
	if err := w.Alive(); err != nil {
		t.Error(err)
	}
}

func TestNil(t *testing.T) {
	var w *Watchdog
	p := w.Loop("x")
	p.Beat()
	p.Rest()()
	p.Done()
	w.Lock("x", &sync.Mutex{}).Done()
	if err := w.Alive(); err != nil {
		t.Error(err)
	}
}
