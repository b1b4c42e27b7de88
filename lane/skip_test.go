package lane

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// What is to be passed over is noted only where the lane has not come to, and from then on
// nobody appends who does not know of it.
func testSkip(t *testing.T, s subject) {
	ctx := t.Context()
	sh := Shard{Index: 1, Of: 2}
	skip := func(from, to int64, want error, skipped Skips) {
		t.Helper()
		if err := s.Skip(ctx, sh, 0, topicA, Skip{from, to}); !errors.Is(err, want) {
			t.Errorf("Skip %d to %d: got %v, want %v", from, to, err, want)
		}
		check(t, fmt.Sprintf("skipped after %d to %d", from, to), must[[]Position](t)(s.Positions(ctx, sh, 1))[0].Skipped, skipped)
		check(t, "Skips", must[Skips](t)(s.Skips(ctx, sh, 0)), skipped)
	}
	moves := func(what string, expect, next int64, knows Skips, want int64) {
		t.Helper()
		a := Append{Shard: sh, Topic: topicA, Expect: expect, Next: next, Skipped: knows}
		check(t, what, must[int64](t)(s.Append(ctx, a)), want)
	}
	skip(20, 30, ErrNoLane, "")
	must[int64](t)(s.Claim(ctx, sh, 0, topicB, 10, 10))
	skip(20, 30, ErrNoLane, "")
	must[int64](t)(s.Claim(ctx, sh, 0, topicA, 10, 10))
	skip(9, 12, ErrPassed, "")
	skip(20, 30, nil, "20:30")
	moves("an append that knows nothing", 10, 15, "", Unskipped)
	moves("an idle one that knows nothing", 10, 10, "", Unskipped)
	moves("an append that knows it", 10, 15, "20:30", 15)
	skip(25, 40, ErrOverlap, "20:30")
	skip(15, 21, ErrOverlap, "20:30")
	skip(15, 20, nil, "15:20,20:30")
	skip(40, 41, nil, "15:20,20:30,40:41")
	moves("an append that knows less", 15, 20, "20:30", Unskipped)
	moves("an append that knows all", 15, 30, "15:20,20:30,40:41", 30)
	skip(29, 30, ErrPassed, "15:20,20:30,40:41")
	check(t, "by Require", must[[]Position](t)(s.Require(ctx, sh, 1, ControlID{}))[0].Skipped, Skips("15:20,20:30,40:41"))
	forget := func(below int64, want Skips) {
		t.Helper()
		if err := s.ForgetSkips(ctx, sh, 0, topicA, below); err != nil {
			t.Error(err)
		}
		check(t, fmt.Sprintf("what is left after %d", below), must[Skips](t)(s.Skips(ctx, sh, 0)), want)
	}
	forget(19, "15:20,20:30,40:41")
	forget(30, "40:41")
	moves("an append that knows more", 30, 31, "15:20,20:30,40:41", Unskipped)
	forget(41, "")
	forget(99, "")
	for i := range int64(MaxSkips) {
		must[any](t)(nil, s.Skip(ctx, sh, 0, topicA, Skip{100 + i, 101 + i}))
	}
	if err := s.Skip(ctx, sh, 0, topicA, Skip{1000, 1001}); !errors.Is(err, ErrTooManySkips) {
		t.Errorf("one more: got %v, want %v", err, ErrTooManySkips)
	}
	must[int64](t)(s.Claim(ctx, sh, 0, topicB, 10, 10))
	check(t, "a lane begun anew", must[Skips](t)(s.Skips(ctx, sh, 0)), "")
}

func TestParseSkips(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []Skip // nil: refused, but for ""
	}{
		{"", nil},
		{"1:2", []Skip{{1, 2}}},
		{"1:2,2:9", []Skip{{1, 2}, {2, 9}}},
		{"2:1", nil}, {"1:1", nil}, {"1:3,2:9", nil}, {"1", nil}, {"1:x", nil}, {",", nil}, {"5:6,1:2", nil},
	} {
		got, err := parseSkips(tt.text)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil || tt.text == "") {
			t.Errorf("%q: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
		if err == nil && string(formatSkips(got)) != tt.text {
			t.Errorf("%q is written as %q", tt.text, formatSkips(got))
		}
	}
}

// The records of operations are kept, the newest first, and not without end.
func TestOperations(t *testing.T) {
	t.Parallel()
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	for i := range maxOperations + 5 {
		op := Operation{At: time.Unix(int64(i), 0).UTC(), By: "ann@host", What: fmt.Sprintf("skip %d", i)}
		if err := r.NoteOperation(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Operations(t.Context())
	if err != nil || len(got) != maxOperations {
		t.Fatalf("Operations: got %d, %v, want %d", len(got), err, maxOperations)
	}
	if want := (Operation{At: time.Unix(maxOperations+4, 0).UTC(), By: "ann@host", What: fmt.Sprintf("skip %d", maxOperations+4)}); got[0] != want {
		t.Errorf("the newest: got %+v, want %+v", got[0], want)
	}
}
