package lane

import (
	"errors"
	"slices"
	"testing"
)

func testRange(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	put(t, s, 0, 0, 0, 1)
	put(t, s, 0, 1, 5, 10)
	put(t, s, 0, 10, 15, 20)
	put(t, s, 0, 20, 29, 30)
	for _, tt := range []struct {
		from, to int64
		want     []int64
		err      error
	}{
		{0, 30, []int64{0, 5, 15, 29}, nil},
		{-5, 30, []int64{0, 5, 15, 29}, nil},
		{0, 1, []int64{0}, nil},
		{0, 2, []int64{0, 5}, nil}, // 1 may be in the second
		{5, 6, []int64{5}, nil},
		{6, 16, []int64{15}, nil},
		{6, 17, []int64{15, 29}, nil},
		{16, 25, []int64{29}, nil},
		{30, 30, nil, nil},
		{0, 31, []int64{0, 5, 15, 29}, ErrBehind},
		{40, 50, nil, ErrBehind},
	} {
		got, first, err := lasts(t, s, 0, tt.from, tt.to)
		if !slices.Equal(got, tt.want) || first != 0 || !errors.Is(err, tt.err) {
			t.Errorf("Range(%d, %d) = %d, %d, %v; want %d, 0, %v", tt.from, tt.to, got, first, err, tt.want, tt.err)
		}
	}
	if got, first, err := lasts(t, s, 1, 0, 5); got != nil || first != -1 || err != nil {
		t.Errorf("Range of an unknown partition = %d, %d, %v; want -1", got, first, err)
	}
}

func testRangePages(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	var all []int64
	for i := range int64(2*lastPage + 50) {
		put(t, s, 0, i*2, i*2+1, i*2+2)
		all = append(all, i*2+1)
	}
	for _, to := range []int64{2 * lastPage, 2*lastPage + 1, 4 * lastPage, 4*lastPage + 100} {
		got, first, err := lasts(t, s, 0, 0, to)
		if want := all[:(to+1)/2]; !slices.Equal(got, want) || first != 0 || err != nil {
			t.Errorf("Range to %d = %d entries, %d, %v; want %d", to, len(got), first, err, len(want))
		}
	}
}

func testRangeTrimmed(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 0, 0))
	for i := range int64(20) {
		put(t, s, 0, i, i, i+1)
	}
	must[int64](t)(s.Append(t.Context(), Append{Topic: topicA, Expect: 20, Next: 20, TrimBefore: 12}))
	got, first, err := lasts(t, s, 0, 5, 20)
	if err != nil || first != 12 || !slices.Equal(got[len(got)-8:], []int64{12, 13, 14, 15, 16, 17, 18, 19}) {
		t.Errorf("Range = %d, %d, %v; want all from 12 on", got, first, err)
	}
}

func testRangeSink(t *testing.T, s subject) {
	must[int64](t)(s.Claim(t.Context(), Shard{}, 0, topicA, 7, 7))
	put(t, s, 0, 7, 7, 8)
	want := errors.New("full")
	if first, err := s.Range(t.Context(), Shard{}, 0, 7, 8, func(Entry) error { return want }); first != 7 || !errors.Is(err, want) {
		t.Errorf("Range = %d, %v; want 7, %v", first, err, want)
	}
}

// A store that lost its last writes and is filled again with batches cut
// differently: a Tail that was past them misses no later event, a Range says
// that it can't be complete as long as it isn't.
func testRolledBack(t *testing.T, s subject) {
	ctx := t.Context()
	must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 0, 0))
	put(t, s, 0, 0, 5, 10)
	roll := s.save()
	put(t, s, 0, 10, 15, 20)
	f := follow(t, s, []int64{0})
	f.until("both entries", func() bool { return len(f.entries) == 2 })
	roll()

	check(t, "Append", must[int64](t)(s.Append(ctx, Append{Topic: topicA, Expect: 20, Next: 30, Last: 25, Entry: []byte("x")})), 10)
	if got, _, err := lasts(t, s, 0, 0, 20); !slices.Equal(got, []int64{5}) || !errors.Is(err, ErrBehind) {
		t.Errorf("Range before it is filled again = %d, %v; want ErrBehind", got, err)
	}
	put(t, s, 0, 10, 13, 14)
	put(t, s, 0, 14, 22, 23) // holds event 15 again, and those from 20 on for the first time
	f.until("the entry with new events", func() bool { return f.entries[len(f.entries)-1].Last == 22 })
	check(t, "entries", len(f.entries), 3)
	if got, first, err := lasts(t, s, 0, 0, 20); !slices.Equal(got, []int64{5, 13, 22}) || first != 0 || err != nil {
		t.Errorf("Range after it was filled again = %d, %d, %v", got, first, err)
	}
}
