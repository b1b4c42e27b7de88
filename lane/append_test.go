package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"eventstream/internal/testenv"
)

func testClaim(t *testing.T, s subject) {
	ctx := t.Context()
	for _, tt := range []struct {
		topic       [16]byte
		start, want int64
	}{
		{topicA, 7, 7},
		{topicA, 99, 7}, // known: start doesn't matter
		{topicB, 3, 3},  // another topic: a new lane
		{topicA, 1 << 60, 1 << 60},
	} {
		check(t, "Claim", must[int64](t)(s.Claim(ctx, Shard{}, 0, tt.topic, tt.start, tt.start+1)), tt.want)
		got := must[[]Position](t)(s.Positions(ctx, Shard{}, 1))
		check(t, "position", got[0], Position{Next: tt.want, First: tt.want, End: tt.start + 1})
	}
	must[int64](t)(s.Claim(ctx, Shard{}, 1, topicA, 0, 0))
	put(t, s, 1, 0, 5, 10)
	must[int64](t)(s.Claim(ctx, Shard{}, 1, topicB, 5, 5))
	if got, first, err := lasts(t, s, 1, 5, 5); got != nil || first != 5 || err != nil {
		t.Errorf("Range after another topic's Claim = %d, %d, %v; want an empty lane from 5", got, first, err)
	}
}

// testAppendAfter: an entry tells a reader whether it has missed something.
func testAppendAfter(t *testing.T, s subject) {
	ctx := t.Context()
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 1<<60, 1<<60))
	step := func(expect, next, last, trim int64) {
		t.Helper()
		a := Append{Topic: topicA, Expect: 1<<60 + expect, Next: 1<<60 + next, TrimBefore: 1<<60 + trim}
		if last >= 0 {
			a.Entry, a.Last = []byte("x"), 1<<60+last
		}
		check(t, "Append", must[int64](t)(s.Append(ctx, a)), a.Next)
	}
	step(0, 10, 5, 0)        // the lane begins at 0
	step(10, 20, -1, 0)      // nothing matched
	step(20, 30, 25, 0)      // the entry before ended at 5
	step(30, 5000, -1, 4000) // all is gone up to 4000
	step(5000, 5010, 5001, 0)
	step(5010, 5011, 5010, 0)
	var got []int64
	must[int64](t)(s.Range(ctx, Shard{}, 0, 0, 1<<60+5011, func(e Entry) error {
		got = append(got, e.After-1<<60)
		return nil
	}))
	// The first ones may be there still: trimming is approximate.
	if want := []int64{0, 6, 4000, 5002}; !slices.Equal(got, want) && !slices.Equal(got, want[2:]) {
		t.Errorf("After = %d, want %d, or the end of them", got, want)
	}
}

func testAppend(t *testing.T, s subject) {
	ctx := t.Context()
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 100, 100))
	id := func(ms, seq uint64) ControlID { return ControlID{ms, seq} }
	entry := []byte("x")
	for _, tt := range []struct {
		what string
		a    Append
		want int64
		pos  Position
	}{
		{"one", Append{Topic: topicA, Expect: 100, Next: 110, Entry: entry, Last: 105, Synced: id(5, 1)}, 110, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"again: lost answer", Append{Topic: topicA, Expect: 100, Next: 110, Entry: entry, Last: 105, Synced: id(5, 1)}, 110, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"too low", Append{Topic: topicA, Expect: 100, Next: 111, Entry: entry, Last: 110, Synced: id(9, 0)}, 110, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"too high: the store lost writes", Append{Topic: topicA, Expect: 120, Next: 130, Entry: entry, Last: 125}, 110, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"other topic", Append{Topic: topicB, Expect: 110, Next: 120, Entry: entry, Last: 115}, -1, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"unknown partition", Append{Partition: 9, Topic: topicA, Expect: 0, Next: 1, Entry: entry}, -1, Position{0, 110, 100, id(5, 1), 0, Loss{}, 0, ""}},
		{"nothing matched", Append{Topic: topicA, Expect: 110, Next: 120, Synced: id(5, 10)}, 120, Position{0, 120, 100, id(5, 10), 0, Loss{}, 0, ""}},
		{"verify", Append{Topic: topicA, Expect: 120, Next: 120, Synced: id(6, 0)}, 120, Position{0, 120, 100, id(6, 0), 0, Loss{}, 0, ""}},
		{"verify with less applied", Append{Topic: topicA, Expect: 120, Next: 120, Synced: id(5, 99)}, 120, Position{0, 120, 100, id(6, 0), 0, Loss{}, 0, ""}},
		{"less applied", Append{Topic: topicA, Expect: 120, Next: 130, Entry: entry, Last: 129, Synced: id(5, 99)}, 120, Position{0, 120, 100, id(6, 0), 0, Loss{}, 0, ""}},
		{"trim", Append{Topic: topicA, Expect: 120, Next: 130, TrimBefore: 106, Synced: id(6, 0)}, 130, Position{0, 130, 106, id(6, 0), 0, Loss{}, 0, ""}},
		{"trim less", Append{Topic: topicA, Expect: 130, Next: 140, TrimBefore: 50, Synced: id(6, 0)}, 140, Position{0, 140, 106, id(6, 0), 0, Loss{}, 0, ""}},
		{"trim all", Append{Topic: topicA, Expect: 140, Next: 150, TrimBefore: 999, Synced: id(6, 0)}, 150, Position{0, 150, 150, id(6, 0), 0, Loss{}, 0, ""}},
		{"past 2^53", Append{Topic: topicA, Expect: 150, Next: 1<<60 + 1, Entry: entry, Last: 1 << 60, Synced: id(6, 0)}, 1<<60 + 1, Position{0, 1<<60 + 1, 150, id(6, 0), 0, Loss{}, 0, ""}},
	} {
		tt.a.End = tt.a.Next + 5
		tt.pos.End = tt.pos.Next + 5
		check(t, tt.what+": Append", must[int64](t)(s.Append(ctx, tt.a)), tt.want)
		pos := must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0]
		pos.Beat = 0 // see testBeat
		check(t, tt.what+": position", pos, tt.pos)
	}
	check(t, "Claim", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0)), 1<<60+1)
	check(t, "position after Claim", must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0].Synced, id(6, 0))
}

func testRequire(t *testing.T, s subject) {
	ctx := t.Context()
	id := func(ms uint64) ControlID { return ControlID{ms, 7} }
	require := func(synced ControlID) Position { return must[[]Position](t)(s.Require(ctx, Shard{}, 2, synced))[0] }
	check(t, "nothing there", require(id(4)), Position{Next: -1, First: -1})
	check(t, "nothing there", must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0], Position{Next: -1, First: -1})
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 100, 100))
	check(t, "claimed", must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0], Position{0, 100, 100, id(4), 0, Loss{}, 100, ""})
	a := Append{Topic: topicA, Expect: 100, Next: 110, Synced: id(5), End: 112}
	check(t, "Append", must[int64](t)(s.Append(ctx, a)), 110)
	check(t, "before", require(id(10)), Position{0, 110, 100, id(5), 1, Loss{}, 112, ""})
	check(t, "less changes nothing", require(id(9)), Position{0, 110, 100, id(10), 1, Loss{}, 112, ""})
	a = Append{Topic: topicA, Expect: 110, Next: 120, Synced: id(9)}
	check(t, "Append with less", must[int64](t)(s.Append(ctx, a)), 110)
	a.Synced = id(10)
	check(t, "Append with enough", must[int64](t)(s.Append(ctx, a)), 120)
}

func testAppendMistakes(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 10, 10))
	for _, a := range []Append{
		{Expect: 10, Next: 9},
		{Expect: -1, Next: 9},
		{Expect: 10, Next: 20, Last: 20, Entry: []byte("x")},
		{Expect: 10, Next: 20, Last: 9, Entry: []byte("x")},
		{Expect: 10, Next: 10, Last: 10, Entry: []byte("x")},
	} {
		a.Topic = topicA
		if got, err := s.Append(t.Context(), a); err == nil {
			t.Errorf("Append(%+v) = %d, want an error", a, got)
		}
	}
}

// The writer packs the next entry into the same memory.
func testAppendCopies(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	b := []byte("0")
	must[int64](t)(s.Append(t.Context(), Append{Topic: topicA, Next: 1, Entry: b}))
	b[0] = 'x'
	if got, _, err := lasts(t, s, 0, 0, 1); !slices.Equal(got, []int64{0}) || err != nil {
		t.Errorf("Range = %d, %v", got, err)
	}
}

func testWipedLane(t *testing.T, s subject) {
	ctx := t.Context()
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0))
	put(t, s, 0, 0, 5, 10)
	s.wipe()
	check(t, "Append", must[int64](t)(s.Append(ctx, Append{Topic: topicA, Expect: 10, Next: 20})), -1)
	check(t, "position", must[[]Position](t)(s.Positions(ctx, Shard{}, 2))[1], Position{Partition: 1, Next: -1, First: -1})
	if got, first, err := lasts(t, s, 0, 0, 10); got != nil || first != -1 || err != nil {
		t.Errorf("Range = %d, %d, %v; want -1", got, first, err)
	}
	check(t, "Claim", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 3, 3)), 3)
	put(t, s, 0, 3, 5, 10)
	must[int64](t)(s.Range(ctx, Shard{}, 0, 0, 10, func(e Entry) error {
		check(t, "where a reader of the first entry has to have been", e.After, 3)
		return nil
	}))
}

// Two writers take each other for dead. Each step must be made by one of them,
// with no hole and nothing twice.
func testZombieWriter(t *testing.T, s subject) {
	const end = 600
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	var won atomic.Int64
	var wg sync.WaitGroup
	for w := range int64(3) {
		wg.Go(func() {
			for next := int64(0); next < end; {
				a := Append{Topic: topicA, Expect: next, Next: next + 1 + (next+w)%3}
				a.Last = a.Next - 1
				a.Entry = fmt.Append(nil, a.Expect, a.Next, w)
				got, err := s.Append(context.Background(), a)
				if err != nil {
					t.Error(err)
					return
				}
				if got == a.Next {
					won.Add(1) // or another made the same step
				}
				next = got
			}
		})
	}
	wg.Wait()
	at, entries := int64(0), int64(0)
	next := must[[]Position](t)(s.Positions(t.Context(), Shard{}, 1))[0].Next
	must[int64](t)(s.Range(t.Context(), Shard{}, 0, 0, next, func(e Entry) error {
		var from, to, w int64
		fmt.Sscan(string(e.Blob), &from, &to, &w)
		if from != at || e.Last != to-1 {
			t.Errorf("entry %q with last %d comes at %d", e.Blob, e.Last, at)
		}
		at = to
		entries++
		return nil
	}))
	if at != next || next < end || entries > won.Load() {
		t.Errorf("lane ends at %d, position is %d; %d entries, %d successes", at, next, entries, won.Load())
	}
}

func TestRedisAfterScriptFlush(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	for i := range int64(3) {
		do(t, r, "SCRIPT", "FLUSH")
		check(t, "Claim", must[int64](t)(r.Claim(t.Context(), Shard{}, 0, topicA, 0, 0)), i)
		do(t, r, "SCRIPT", "FLUSH")
		put(t, r, 0, i, i, i+1)
	}
}

// A full Redis must refuse the entry and the position together, and yet get rid
// of what is old, or it would stay full.
func TestRedisFull(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	ctx := t.Context()
	must[int64](t)(r.Claim(ctx, Shard{}, 0, topicA, 0, 0))
	big := make([]byte, 8<<10) // alone in its node, so that trimming is exact
	for i := range int64(10) {
		must[int64](t)(r.Append(ctx, Append{Topic: topicA, Expect: i, Next: i + 1, Last: i, Entry: big}))
	}
	do(t, r, "CONFIG", "SET", "maxmemory", "1")
	a := Append{Topic: topicA, Expect: 10, Next: 11, Last: 10, Entry: big}
	for _, entry := range [][]byte{big, nil} {
		a.Entry = entry
		if got, err := r.Append(ctx, a); !errors.Is(err, ErrFull) {
			t.Fatalf("Append = %d, %v; want ErrFull", got, err)
		}
	}
	check(t, "position", must[[]Position](t)(r.Positions(ctx, Shard{}, 1))[0], Position{Next: 10, Beat: 10})

	a.TrimBefore, a.Entry = 5, big
	if got, err := r.Append(ctx, a); !errors.Is(err, ErrFull) {
		t.Fatalf("Append with trim = %d, %v; want ErrFull", got, err)
	}
	check(t, "position", must[[]Position](t)(r.Positions(ctx, Shard{}, 1))[0], Position{Next: 10, First: 5, Beat: 10})
	var got []int64
	must[int64](t)(r.Range(ctx, Shard{}, 0, 0, 10, func(e Entry) error { got = append(got, e.Last); return nil }))
	if want := []int64{5, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("lane = %d, want %d", got, want)
	}
	do(t, r, "CONFIG", "SET", "maxmemory", "0")
	check(t, "Append", must[int64](t)(r.Append(ctx, a)), 11)
}

func TestMemoryTrimsBySize(t *testing.T) {
	m := NewMemory()
	m.laneBytes = 1000
	must[int64](t)(m.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	for i := range int64(100) {
		must[int64](t)(m.Append(t.Context(), Append{Topic: topicA, Expect: i, Next: i + 1, Last: i, Entry: make([]byte, 100)}))
	}
	check(t, "position", must[[]Position](t)(m.Positions(t.Context(), Shard{}, 1))[0], Position{Next: 100, First: 90, Beat: 100})
	check(t, "bytes", m.lanes[memoryKey{}].bytes, 1000)
}

func BenchmarkAppend(b *testing.B) {
	r := newRedis(b, RedisConfig{Addr: testenv.Redis(b).Addr})
	for _, s := range []struct {
		name string
		store
	}{{"memory", NewMemory()}, {"redis", r}} {
		for _, size := range []int{1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("%s/bytes=%d", s.name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				ctx, entry := context.Background(), make([]byte, size)
				next := must[int64](b)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0))
				for b.Loop() {
					a := Append{Topic: topicA, Expect: next, Next: next + 10, Last: next, Entry: entry, TrimBefore: next - 10_000}
					next = must[int64](b)(s.Append(ctx, a))
				}
			})
		}
	}
}
