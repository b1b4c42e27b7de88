package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"eventstream/internal/bubble"
)

func TestTake(t *testing.T) {
	var l Local
	r := Rate{4, time.Second}
	at := time.Unix(1000, 0)
	for i, tt := range []struct {
		after time.Duration
		want  Decision
	}{
		{0, Decision{OK: true, Left: 3, Full: 250 * time.Millisecond}},
		{0, Decision{OK: true, Left: 2, Full: 500 * time.Millisecond}},
		{0, Decision{OK: true, Left: 1, Full: 750 * time.Millisecond}},
		{0, Decision{OK: true, Left: 0, Full: time.Second}},
		{0, Decision{OK: false, Left: 0, Full: time.Second, Retry: 250 * time.Millisecond}},
		{100 * time.Millisecond, Decision{OK: false, Left: 0, Full: 900 * time.Millisecond, Retry: 150 * time.Millisecond}},
		{150 * time.Millisecond, Decision{OK: true, Left: 0, Full: time.Second}},
		{time.Hour, Decision{OK: true, Left: 3, Full: 250 * time.Millisecond}},
	} {
		at = at.Add(tt.after)
		if got := l.Take("a", r, at); got != tt.want {
			t.Errorf("%d: %+v, want %+v", i, got, tt.want)
		}
	}
	if got := l.Take("b", r, at); got.Left != 3 {
		t.Errorf("another name: %+v", got)
	}
	for i, tt := range []struct {
		n    int
		want Decision
	}{
		{3, Decision{OK: true, Left: 1, Full: 750 * time.Millisecond}},
		{2, Decision{OK: false, Left: 1, Full: 750 * time.Millisecond, Retry: 250 * time.Millisecond}},
		{1, Decision{OK: true, Left: 0, Full: time.Second}},
		{4, Decision{OK: false, Left: 0, Full: time.Second, Retry: time.Second}},
	} {
		if got := l.TakeN("c", r, tt.n, at); got != tt.want {
			t.Errorf("%d: %d at once: %+v, want %+v", i, tt.n, got, tt.want)
		}
	}
}

// Never more than 2N pass within any period, and whoever keeps within the rate is
// never refused.
func TestRateHolds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		r := Rate{1 + rnd.IntN(20), time.Second}
		var l Local
		at := time.Unix(1000, 0)
		var passed []time.Time
		for range 500 {
			at = at.Add(time.Duration(rnd.IntN(int(2 * r.interval()))))
			if l.Take("a", r, at).OK {
				passed = append(passed, at)
			}
		}
		for i := range passed {
			n := 0
			for _, p := range passed[i:] {
				if p.Sub(passed[i]) < r.Per {
					n++
				}
			}
			if n > 2*r.N {
				t.Fatalf("rate %v: %d passed within a period", r, n)
			}
		}
		steady := time.Unix(2000, 0)
		for range 100 {
			if d := l.Take("steady", r, steady); !d.OK {
				t.Fatalf("rate %v: one in %v is refused: %+v", r, r.interval(), d)
			}
			steady = steady.Add(r.interval())
		}
	}
}

func TestLocalIsBounded(t *testing.T) {
	var l Local
	r := Rate{2, time.Second}
	at := time.Unix(1000, 0)
	for i := range maxNames + 1000 {
		l.Take(fmt.Sprint(i), r, at)
	}
	if n := len(l.until); n > maxNames+1 {
		t.Errorf("%d names are kept", n)
	}
	if d := l.Take("late", r, at); d.OK {
		t.Error("newcomers past the bound are not limited together")
	}
	if d := l.Take("late", r, at.Add(2*time.Second)); !d.OK || len(l.until) > 10 {
		t.Errorf("after a while: %+v, with %d names kept", d, len(l.until))
	}
}

// Tries that are taken back leave what was there before.
func TestUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{rapid.IntRange(1, 20).Draw(t, "n"), time.Second}
		var plain, undone Local
		at := time.Unix(1000, 0)
		for range rapid.IntRange(1, 100).Draw(t, "tries") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(2*r.interval())).Draw(t, "pause")))
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
			if rapid.Bool().Draw(t, "undo") {
				if undone.Take(name, r, at).OK {
					undone.Undo(name, r, at)
				}
				continue
			}
			if got, want := undone.Take(name, r, at), plain.Take(name, r, at); got != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
		if len(undone.until) > 2 {
			t.Fatalf("%d names are kept of two", len(undone.until))
		}
	})
}

// A try is taken back where it was counted, also if there was no room for its name.
func TestUndoWithoutRoom(t *testing.T) {
	var l Local
	r := Rate{1, time.Second}
	at := time.Unix(1000, 0)
	for i := range maxNames {
		l.Take(fmt.Sprint(i), r, at)
	}
	for range 3 {
		if d := l.Take("late", r, at); !d.OK {
			t.Fatalf("the one before was not taken back: %+v", d)
		}
		l.Undo("late", r, at)
	}
	l.Undo("late", r, at.Add(time.Hour)) // nothing is left of it
}

// redis is one that can be down.
type redis struct {
	down  bool
	asked int
}

func (r *redis) TakeTime(_ context.Context, _ string, interval, _ time.Duration) (bool, time.Duration, error) {
	r.asked++
	if r.down {
		return false, 0, errors.New("down")
	}
	return true, interval, nil
}

func TestSharedWithoutRedis(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		server := &redis{down: true}
		s := NewShared(server)
		r := Rate{2, time.Second}
		passed := 0
		for range 10 {
			if s.Take(t.Context(), "a", r).OK {
				passed++
			}
		}
		if passed != 2 || server.asked != 1 || !s.Alone() {
			t.Errorf("%d passed, Redis was asked %d times, alone %t; want 2, 1, true", passed, server.asked, s.Alone())
		}
		server.down = false
		time.Sleep(redisPause)
		s.Take(t.Context(), "a", r)
		if server.asked != 2 || s.Alone() {
			t.Errorf("when it is back: asked %d times, alone %t", server.asked, s.Alone())
		}
	})
}
