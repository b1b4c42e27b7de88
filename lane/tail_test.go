package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

func testTail(t *testing.T, s subject) {
	for p := range int32(2) {
		must[int64](t)(s.Claim(t.Context(), Shard{}, p, topicA, 0, 0))
		for i := range int64(10) {
			put(t, s, p, i*10, i*10+5, i*10+10)
		}
	}
	from := []int64{55, 96, 0}
	f := follow(t, s, from)
	f.until("positions", func() bool { return f.pos[0].Next == 100 && f.pos[1].Next == 100 && f.pos[2].Next == -1 })
	put(t, s, 1, 100, 100, 101)
	put(t, s, 1, 101, 101, 102)
	must[int64](t)(s.Claim(t.Context(), Shard{}, 2, topicA, 0, 0))
	put(t, s, 2, 0, 0, 1)
	f.until("what was appended", func() bool { return len(f.entries) == 5+2+1 })
	f.until("new positions", func() bool { return f.pos[1].Next == 102 && f.pos[2].Next == 1 })
	if err := f.end(); err != nil {
		t.Errorf("Tail = %v after its end", err)
	}
	var got [3][]int64
	for _, e := range f.entries {
		got[e.Partition] = append(got[e.Partition], e.Last)
		check(t, "blob", string(e.Blob), fmt.Sprint(e.Last))
	}
	want := [3][]int64{{55, 65, 75, 85, 95}, {100, 101}, {0}}
	for p := range got {
		if !slices.Equal(got[p], want[p]) {
			t.Errorf("partition %d: entries %d, want %d", p, got[p], want[p])
		}
	}
	if !slices.Equal(from, []int64{55, 96, 0}) {
		t.Errorf("Tail changed from to %d", from)
	}
}

func testTailNothing(t *testing.T, s subject) {
	f := follow(t, s, nil)
	if err := f.end(); err != nil {
		t.Errorf("Tail = %v", err)
	}
}

func testTailEnds(t *testing.T, s subject) {
	want := errors.New("full")
	if err := s.Tail(t.Context(), Shard{}, []int64{0}, func(Batch) error { return want }); !errors.Is(err, want) {
		t.Errorf("Tail = %v, want the error of sink", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Tail(ctx, Shard{}, []int64{0}, func(Batch) error {
		cancel()
		return context.Canceled
	})
	if err != nil {
		t.Errorf("Tail = %v after its context ended, want nil", err)
	}
	if err := s.Tail(ctx, Shard{}, []int64{0}, func(Batch) error { return want }); err != nil {
		t.Errorf("Tail = %v with an ended context, want nil", err)
	}
}

func testTailWiped(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	put(t, s, 0, 0, 5, 10)
	f := follow(t, s, []int64{0})
	f.until("its position", func() bool { return f.pos[0].Next == 10 })
	s.wipe()
	f.until("the loss", func() bool { return f.pos[0].Next == -1 })
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 3, 3))
	put(t, s, 0, 3, 5, 8)
	put(t, s, 0, 8, 12, 20)
	f.until("what is new", func() bool { return len(f.entries) > 1 })
	check(t, "last entry", f.entries[1].Last, 12)
}

// steps is a lane's content that depends on nothing but p: step i goes from 10*i
// to 10*i+10, and two of three have an entry.
func step(p int32, i int64) Append {
	a := Append{Partition: p, Topic: topicA, Expect: i * 10, Next: i*10 + 10}
	if h := i*7 + int64(p)*3; h%3 != 0 {
		a.Last = a.Expect + h%10
		a.Entry = fmt.Append(nil, a.Last)
	}
	return a
}

// Whenever a Position arrives, every entry below its Next has been passed.
func testTailPositions(t *testing.T, s subject) {
	const partitions, steps = 4, 300
	from := make([]int64, partitions)
	for p := range int32(partitions) {
		must[int64](t)(s.Claim(t.Context(), Shard{}, p, topicA, 0, 0))
		for i := range int64(steps / 3) { // some before, to catch up with
			must[int64](t)(s.Append(t.Context(), step(p, i)))
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := int64(steps / 3); i < steps; i++ {
				if _, err := s.Append(context.Background(), step(p, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	f := follow(t, s, from)
	var seen, want, checked [partitions]int64
	f.until("all positions", func() bool {
		for _, e := range f.entries {
			seen[e.Partition]++
		}
		f.entries = f.entries[:0]
		done := 0
		for p, pos := range f.pos {
			for ; checked[p]*10 < pos.Next; checked[p]++ {
				want[p] += int64(min(len(step(int32(p), checked[p]).Entry), 1))
			}
			if seen[p] < want[p] {
				t.Fatalf("partition %d at %d: %d entries passed, want %d", p, pos.Next, seen[p], want[p])
			}
			if pos.Next == steps*10 {
				done++
			}
		}
		return done == partitions
	})
	check(t, "entries", seen, want)
}
