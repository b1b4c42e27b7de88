package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// What is trimmed has stood in the lane for the retention, or is above the cap,
// and what may be trimmed doesn't stay for much longer: whatever is appended
// when, and however often the lane is claimed.
func TestTrimmer(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { testTrimmer(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func testTrimmer(t *testing.T, rng *rand.Rand) {
	const retention, maxBytes = 10 * time.Minute, 1_000_000
	tr := trimmer{retention: retention, maxBytes: maxBytes}
	type entry struct {
		at    time.Time
		end   int64
		bytes int
	}
	var entries []entry // that nobody has trimmed
	now, next := time.Unix(1e9, 0), int64(1000)
	tr.begin(now, next, next)
	first := next
	for range 20_000 {
		now = now.Add(time.Duration(rng.IntN(1000)) * time.Millisecond)
		if rng.IntN(500) == 0 {
			now = now.Add(time.Duration(rng.IntN(300)) * time.Second)
		}
		if rng.IntN(100) == 0 {
			tr.begin(now, first, next) // the worker failed
		}
		before := tr.before(now, next)
		kept := 0
		for i := len(entries) - 1; i >= 0 && entries[i].end > before; i-- {
			kept += entries[i].bytes
		}
		for len(entries) > 0 && entries[0].end <= before {
			if age := now.Sub(entries[0].at); age < retention && kept < maxBytes {
				t.Fatalf("trimmed after %v with %d bytes left", age, kept)
			}
			entries = entries[1:]
		}
		if len(entries) > 0 {
			if age := now.Sub(entries[0].at); age > retention+11*time.Second+300*time.Second {
				t.Fatalf("kept for %v", age)
			}
		}
		if limit := maxBytes*18/16 + 1000; kept > limit {
			t.Fatalf("kept %d bytes, want at most %d", kept, limit)
		}
		first = max(first, before)
		n, bytes := 1+rng.Int64N(10), rng.IntN(1000)
		next += n
		tr.appended(bytes)
		entries = append(entries, entry{now, next, bytes})
		if len(tr.marks) > 100 {
			t.Fatalf("%d marks", len(tr.marks))
		}
	}
}

// A partition that comes to us, again and again, from other processes is
// trimmed nevertheless: of what Kafka's time says is old.
func TestTrimmerBegins(t *testing.T) {
	tr := trimmer{retention: 10 * time.Minute, maxBytes: 1 << 30}
	now := time.Unix(1e9, 0)
	tr.begin(now, 500, 800)
	if got := tr.before(now, 800); got != 0 {
		t.Errorf("before = %d at once, want 0", got)
	}
	if got := tr.before(now.Add(settle+time.Second), 810); got != 500 {
		t.Errorf("before = %d after a minute, want 500", got)
	}
	if got := tr.before(now.Add(10*time.Minute+time.Second), 820); got != 800 {
		t.Errorf("before = %d after the retention, want 800", got)
	}
	// The store lost its last writes: what has to be appended again is new.
	tr.begin(now.Add(11*time.Minute), 600, 700)
	if got := tr.before(now.Add(12*time.Minute), 700); got > 700 {
		t.Errorf("before = %d, above the position", got)
	}
}
