package lane

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

func TestParseShard(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Shard
		ok   bool
	}{
		{"0/1", Shard{0, 1}, true},
		{"2/8", Shard{2, 8}, true},
		{"255/256", Shard{255, 256}, true},
		{"", Shard{}, false},
		{"2", Shard{}, false},
		{"8/8", Shard{}, false},
		{"0/0", Shard{}, false},
		{"-1/8", Shard{}, false},
		{"1/2/3", Shard{}, false},
		{"0/257", Shard{}, false},
	} {
		got, err := ParseShard(tt.text)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseShard(%q) = %v, %v; want %v, ok %t", tt.text, got, err, tt.want, tt.ok)
		}
		if tt.ok {
			check(t, "String", got.String(), tt.text)
		}
	}
	check(t, "String of the zero value", Shard{}.String(), "0/1")
}

// The numbers must never change: processes of different versions share lanes.
func TestShardOf(t *testing.T) {
	for _, tt := range []struct {
		subscriber string
		of, want   int32
	}{
		{"user_1", 0, 0},
		{"user_1", 1, 0},
		{"user_1", 8, 0},
		{"user_2", 8, 5},
		{"user_1", 3, 2},
		{"", 256, 193},
		{"käse", 256, 177},
	} {
		check(t, fmt.Sprintf("ShardOf(%q, %d)", tt.subscriber, tt.of), ShardOf(tt.subscriber, tt.of), tt.want)
	}
	const of, each = 8, 2000
	var counts [of]int
	for i := range of * each {
		name := fmt.Sprint("user_", i)
		n := ShardOf(name, of)
		counts[n]++
		for s := range int32(of) {
			if got := (Shard{s, of}).Holds(name); got != (s == n) {
				t.Fatalf("shard %d holds %s: %t, but it falls to %d", s, name, got, n)
			}
		}
	}
	for s, n := range counts {
		if n < each*9/10 || n > each*11/10 {
			t.Errorf("shard %d holds %d of %d subscribers, want about %d", s, n, of*each, each)
		}
	}
}

var shards = []Shard{{}, {0, 2}, {1, 2}}

// Each shard has lanes of its own, of which the others see nothing.
func testShards(t *testing.T, s subject) {
	ctx := t.Context()
	for i, sh := range shards {
		n := int64(i+1) * 10
		check(t, "Claim", must[int64](t)(s.Claim(ctx, sh, 1, topicA, 0, 0)), 0)
		a := Append{Shard: sh, Partition: 1, Topic: topicA, Next: n, Last: n - 1, Entry: fmt.Append(nil, n-1)}
		check(t, "Append", must[int64](t)(s.Append(ctx, a)), n)
	}
	check(t, "Claim of the zero value's other form", must[int64](t)(s.Claim(ctx, Shard{0, 1}, 1, topicA, 0, 0)), 10)
	for i, sh := range shards {
		n := int64(i+1) * 10
		check(t, "position", must[[]Position](t)(s.Positions(ctx, sh, 2))[1], Position{Partition: 1, Next: n, Beat: 1})
		var got []int64
		must[int64](t)(s.Range(ctx, sh, 1, 0, n, func(e Entry) error { got = append(got, e.Last); return nil }))
		if len(got) != 1 || got[0] != n-1 {
			t.Errorf("Range of shard %s = %d, want %d", sh, got, n-1)
		}
		f := followShard(t, s, sh, []int64{0, 0})
		f.until("its position", func() bool { return f.pos[1].Next == n })
		if err := f.end(); err != nil || len(f.entries) != 1 || f.entries[0].Last != n-1 {
			t.Errorf("Tail of shard %s = %v, %v; want the entry of %d", sh, f.entries, err, n-1)
		}
	}
}

// Positions of another number of shards are not those of the same subscribers:
// nobody may go on from them, nor may one who had the lane before write to it.
func testOtherShards(t *testing.T, s subject) {
	ctx := t.Context()
	two, four := Shard{1, 2}, Shard{1, 4}
	must[int64](t)(s.Claim(ctx, two, 0, topicA, 0, 0))
	a := Append{Shard: two, Topic: topicA, Next: 10, Last: 5, Entry: []byte("x")}
	must[int64](t)(s.Append(ctx, a))
	unknown := Position{Next: -1, First: -1}
	check(t, "position of four", must[[]Position](t)(s.Positions(ctx, four, 1))[0], unknown)
	a.Shard, a.Expect, a.Next, a.Last = four, 10, 20, 15
	check(t, "Append of four", must[int64](t)(s.Append(ctx, a)), -1)
	if first := must[int64](t)(s.Range(ctx, four, 0, 0, 10, nil)); first != -1 {
		t.Errorf("Range of four = %d, want -1", first)
	}

	check(t, "Claim of four", must[int64](t)(s.Claim(ctx, four, 0, topicA, 3, 3)), 3)
	check(t, "position of four", must[[]Position](t)(s.Positions(ctx, four, 1))[0], Position{Next: 3, First: 3, End: 3})
	check(t, "position of two", must[[]Position](t)(s.Positions(ctx, two, 1))[0], unknown)
	a.Shard = two
	check(t, "Append of two", must[int64](t)(s.Append(ctx, a)), -1)
}

// A position beats with all that its writer does, and with nothing else.
func testBeat(t *testing.T, s subject) {
	ctx := t.Context()
	beat := func() int64 { return must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0].Beat }
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0))
	last := beat()
	for _, tt := range []struct {
		what  string
		a     Append
		beats bool
	}{
		{"entry", Append{Next: 10, Last: 5, Entry: []byte("x")}, true},
		{"refused", Append{Next: 20, Last: 5, Entry: []byte("x")}, false},
		{"nothing matched", Append{Expect: 10, Next: 20}, true},
		{"verify", Append{Expect: 20, Next: 20}, true},
		{"verify again", Append{Expect: 20, Next: 20}, true},
	} {
		tt.a.Topic = topicA
		must[int64](t)(s.Append(ctx, tt.a))
		now := beat()
		check(t, tt.what+": beats", now != last, tt.beats)
		last = now
	}
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0))
	check(t, "beat after Claim", beat(), last)
}

// Retired lanes go, but not those that are claimed again, nor those of another
// number of shards under the same keys.
func testRetire(t *testing.T, s subject) {
	ctx := t.Context()
	two, four := Shard{1, 2}, Shard{1, 4}
	for p := range int32(3) {
		must[int64](t)(s.Claim(ctx, two, p, topicA, 0, 0))
		must[int64](t)(s.Append(ctx, Append{Shard: two, Partition: p, Topic: topicA, Next: 10, Last: 5, Entry: []byte("x")}))
	}
	must[int64](t)(s.Claim(ctx, four, 2, topicA, 7, 7))
	if err := s.Retire(ctx, two, topicA, 4, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	check(t, "Claim", must[int64](t)(s.Claim(ctx, two, 0, topicA, 99, 99)), 10)
	testenv.Eventually(t, 10*time.Second, func() error {
		if pos := must[[]Position](t)(s.Positions(ctx, two, 2)); pos[1].Next != -1 {
			return errors.New("still there")
		}
		return nil
	})
	check(t, "position that was claimed again", must[[]Position](t)(s.Positions(ctx, two, 1))[0].Next, 10)
	check(t, "position of four", must[[]Position](t)(s.Positions(ctx, four, 3))[2].Next, 7)

	must[int64](t)(s.Claim(ctx, two, 1, topicB, 3, 3))
	if err := s.Retire(ctx, two, topicA, 4, 0); err != nil { // at once
		t.Fatal(err)
	}
	pos := must[[]Position](t)(s.Positions(ctx, two, 2))
	check(t, "position after Retire without keep", pos[0].Next, -1)
	check(t, "position that another topic has taken over", pos[1].Next, 3)
}
