package lane

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
)

func testPublishFilter(t *testing.T, s subject) {
	ctx := t.Context()
	check(t, "ControlEnd", must[ControlID](t)(s.ControlEnd(ctx)), ControlID{})
	changes, last, err := s.ControlSince(ctx, ControlID{})
	if changes != nil || last != (ControlID{}) || err != nil {
		t.Fatalf("ControlSince = %v, %s, %v; want nothing", changes, last, err)
	}
	amount := 1.5
	want := []filter.Change{
		{Filter: filter.Filter{ID: "f1", Revision: 1, Spec: filter.Spec{SubscriberID: "käthe", EventTypes: []string{"a", "b"}, MinAmount: &amount}}},
		{Filter: filter.Filter{ID: "f2", Revision: 3, Spec: filter.Spec{SubscriberID: "x", MatchAll: true}}},
		{Filter: filter.Filter{ID: "f1", Revision: 2}, Deleted: true},
	}
	var ids []ControlID
	for _, c := range want {
		ids = append(ids, must[ControlID](t)(s.PublishFilter(ctx, c)))
	}
	check(t, "ControlEnd", must[ControlID](t)(s.ControlEnd(ctx)), ids[2])
	for from, after := range append([]ControlID{{}}, ids...) {
		changes, last, err := s.ControlSince(ctx, after)
		if err != nil || last != ids[2] || len(changes) != 3-from {
			t.Fatalf("ControlSince(%s) = %d changes, %s, %v; want %d, %s", after, len(changes), last, err, 3-from, ids[2])
		}
		for i, got := range changes {
			if c := (Change{ID: ids[from+i], Filter: &want[from+i]}); !reflect.DeepEqual(got, c) {
				t.Errorf("change = %+v, want %+v", got, c)
			}
		}
	}
}

func testPublishBulk(t *testing.T, s subject) {
	ctx := t.Context()
	before := must[ControlID](t)(s.PublishFilter(ctx, filter.Change{Filter: filter.Filter{ID: "f1"}}))
	bulk := must[ControlID](t)(s.PublishBulk(ctx))
	changes, last, err := s.ControlSince(ctx, before)
	if want := []Change{{ID: bulk, Bulk: true}}; err != nil || last != bulk || !reflect.DeepEqual(changes, want) {
		t.Errorf("ControlSince(%s) = %+v, %s, %v; want %+v, %s", before, changes, last, err, want, bulk)
	}
}

func testControlPages(t *testing.T, s subject) {
	const n = 2*controlPage + 100
	for i := range n {
		must[ControlID](t)(s.PublishFilter(t.Context(), filter.Change{Filter: filter.Filter{Revision: int64(i)}}))
	}
	changes, last, err := s.ControlSince(t.Context(), ControlID{})
	if err != nil || len(changes) != n || last != changes[n-1].ID {
		t.Fatalf("ControlSince = %d changes, %s, %v; want %d", len(changes), last, err, n)
	}
	for i, c := range changes {
		if c.Filter.Revision != int64(i) {
			t.Fatalf("change %d has revision %d", i, c.Filter.Revision)
		}
	}
	rest, _, err := s.ControlSince(t.Context(), changes[99].ID)
	if err != nil || len(rest) != n-100 {
		t.Errorf("ControlSince = %d changes, %v; want %d", len(rest), err, n-100)
	}
}

// Several publish at once: a reader sees what each one published in its order,
// with the ID that it was told, nothing twice and nothing left out.
func testControlOrder(t *testing.T, s subject) {
	const writers, each = 4, 100
	var told [writers][]ControlID
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				c := filter.Change{Filter: filter.Filter{ID: filter.ID(fmt.Sprint(w)), Revision: int64(i)}}
				id, err := s.PublishFilter(context.Background(), c)
				if err != nil {
					t.Error(err)
					return
				}
				told[w] = append(told[w], id)
			}
		})
	}
	var seen [writers][]ControlID
	var last ControlID
	for got := 0; got < writers*each && !t.Failed(); {
		changes, end, err := s.ControlSince(t.Context(), last)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.ID.Compare(last) <= 0 {
				t.Fatalf("change %s after %s", c.ID, last)
			}
			var w int
			fmt.Sscan(string(c.Filter.ID), &w)
			check(t, "revision", c.Filter.Revision, int64(len(seen[w])))
			seen[w] = append(seen[w], c.ID)
			last = c.ID
		}
		check(t, "last", end, last)
		got += len(changes)
	}
	wg.Wait()
	if !reflect.DeepEqual(seen, told) {
		t.Error("the IDs that writers were told are not those that the reader saw")
	}
}

func testControlWiped(t *testing.T, s subject) {
	ctx := t.Context()
	publish := func() ControlID { return must[ControlID](t)(s.PublishFilter(ctx, filter.Change{})) }
	publish()
	at := publish()
	s.wipe()
	if _, last, err := s.ControlSince(ctx, at); !errors.Is(err, ErrControlLost) || last != at {
		t.Errorf("ControlSince after wipe = %s, %v; want %s, ErrControlLost", last, err, at)
	}
	check(t, "ControlEnd", must[ControlID](t)(s.ControlEnd(ctx)), ControlID{})
	// The new stream's IDs are higher: it looks as if it went on.
	testenv.Eventually(t, time.Second, func() error {
		if now := time.Now().UnixMilli(); uint64(now) <= at.Ms {
			return fmt.Errorf("still at %d", now)
		}
		return nil
	})
	publish()
	if changes, _, err := s.ControlSince(ctx, at); !errors.Is(err, ErrControlLost) {
		t.Errorf("ControlSince of a new stream = %d changes, %v; want ErrControlLost", len(changes), err)
	}
	end := must[ControlID](t)(s.ControlEnd(ctx))
	if changes, last, err := s.ControlSince(ctx, end); len(changes) > 0 || last != end || err != nil {
		t.Errorf("ControlSince = %d changes, %s, %v; want nothing after %s", len(changes), last, err, end)
	}
}

// Somebody emptied the stream by hand. Nobody can miss anything, and readers
// must not start again for ever.
func TestRedisControlEmptied(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	at := must[ControlID](t)(r.PublishFilter(t.Context(), filter.Change{}))
	do(t, r, "XTRIM", r.controlKey(), "MAXLEN", "0")
	if changes, last, err := r.ControlSince(t.Context(), at); len(changes) > 0 || last != at || err != nil {
		t.Errorf("ControlSince = %d changes, %s, %v; want nothing", len(changes), last, err)
	}
}

// An entry of a later version, or of somebody else, must not stop everything.
func TestRedisControlGarbage(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	for _, field := range []string{filterField, seatsField, "x"} {
		do(t, r, "XADD", r.controlKey(), "*", field, "garbage")
	}
	id := must[ControlID](t)(r.PublishFilter(t.Context(), filter.Change{}))
	changes, last, err := r.ControlSince(t.Context(), ControlID{})
	if err != nil || len(changes) != 4 || last != id || changes[3].Filter == nil {
		t.Fatalf("ControlSince = %+v, %s, %v", changes, last, err)
	}
	for _, c := range changes[:3] {
		if c.Filter != nil || c.Joined != nil {
			t.Errorf("garbage became %+v", c)
		}
	}
}

// The stream is trimmed once some time has passed, reckoned from an entry that
// readers had that time to read.
func TestRedisControlTrim(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	old := ControlID{Ms: uint64(time.Now().Add(-2 * ControlRetention).UnixMilli())}
	for i := range 300 {
		do(t, r, "XADD", r.controlKey(), fmt.Sprintf("%d-%d", old.Ms, i+1), "x", "")
	}
	length := func() int64 {
		c := must[rueidis.Client](t)(r.open(t.Context()))
		return must[int64](t)(c.Do(t.Context(), c.B().Xlen().Key(r.controlKey()).Build()).AsInt64())
	}
	publish := func() ControlID { return must[ControlID](t)(r.PublishFilter(t.Context(), filter.Change{})) }
	publish()
	publish()
	check(t, "length", length(), 302)
	r.trim.since = r.trim.since.Add(-controlTrimEvery)
	end := publish()
	if n := length(); n > 103 { // Redis drops whole nodes of 100 entries
		t.Errorf("length after a trim = %d", n)
	}
	if _, _, err := r.ControlSince(t.Context(), ControlID{old.Ms, 5}); !errors.Is(err, ErrControlLost) {
		t.Errorf("ControlSince of what was trimmed = %v, want ErrControlLost", err)
	}
	if _, _, err := r.ControlSince(t.Context(), end); err != nil {
		t.Errorf("ControlSince the end = %v", err)
	}
}

func TestMemoryControlTrim(t *testing.T) {
	m := NewMemory()
	publish := func() ControlID { return must[ControlID](t)(m.PublishFilter(t.Context(), filter.Change{})) }
	for range 10 {
		publish()
	}
	for i := range m.entries {
		m.entries[i].id = ControlID{Ms: uint64(i + 1)} // very old
	}
	m.end = ControlID{Ms: 10}
	publish()
	check(t, "first", m.entries[0].id, ControlID{Ms: 10}) // where readers are
	check(t, "length", len(m.entries), 2)
}

func TestControlID(t *testing.T) {
	for _, s := range []string{"", "-", "1", "1-", "-1", "1-2-3", "a-1", "1-b", "18446744073709551616-0", " 1-1"} {
		if id, err := ParseControlID(s); err == nil {
			t.Errorf("ParseControlID(%q) = %s, want an error", s, id)
		}
	}
	ids := []ControlID{{}, {0, 1}, {1, 0}, {1, 1}, {1 << 63, 1<<64 - 1}}
	for i, a := range ids {
		got, err := ParseControlID(a.String())
		if err != nil || got != a {
			t.Errorf("ParseControlID(%s) = %s, %v", a, got, err)
		}
		for j, b := range ids {
			check(t, fmt.Sprintf("%s compared to %s", a, b), a.Compare(b) < 0, i < j)
		}
	}
}

func FuzzParseControlID(f *testing.F) {
	f.Add("1700000000000-0")
	f.Add("1-")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseControlID(s)
		if err != nil {
			return
		}
		if again, err := ParseControlID(id.String()); err != nil || again != id {
			t.Errorf("%q: %s, %v; want %s", s, again, err, id)
		}
	})
}

func FuzzDecodeChange(f *testing.F) {
	f.Add(seatsField, seatEntries(7, []Seated{{1, "a"}, {1 << 31, "user_2"}}, []event.Seat{5})[0])
	f.Add(seatsField, []byte{changeVersion})
	f.Add(filterField, []byte(`{"id":"x","deleted":true}`))
	f.Add(filterField, []byte(`null`))
	f.Fuzz(func(t *testing.T, field string, b []byte) {
		c, err := decodeChange(ControlID{1, 2}, field, b)
		if err != nil || field != seatsField {
			return
		}
		enc := appendSeatEntry(nil, c.Gateway, c.Joined, c.Forgot)
		if again, err := decodeChange(c.ID, field, enc); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func TestSeatEntriesSplit(t *testing.T) {
	for _, tt := range []struct{ joined, forgot, entries int }{
		{0, 0, 0}, {1, 0, 1}, {0, 1, 1}, {maxEntrySeats, 0, 1}, {maxEntrySeats, 1, 2},
		{maxEntrySeats / 2, maxEntrySeats / 2, 1}, {2*maxEntrySeats + 1, 3 * maxEntrySeats, 6},
	} {
		var want, got Change
		for i := range tt.joined {
			want.Joined = append(want.Joined, Seated{event.Seat(i), fmt.Sprint("user_", i)})
		}
		for i := range tt.forgot {
			want.Forgot = append(want.Forgot, event.Seat(i))
		}
		entries := seatEntries(9, want.Joined, want.Forgot)
		for _, b := range entries {
			c, err := decodeChange(ControlID{}, seatsField, b)
			if err != nil || c.Gateway != 9 || len(got.Forgot) > 0 && len(c.Joined) > 0 {
				t.Fatalf("entry = %+v, %v", c, err)
			}
			got.Joined, got.Forgot = append(got.Joined, c.Joined...), append(got.Forgot, c.Forgot...)
		}
		check(t, "entries", len(entries), tt.entries)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: joined %d, forgot %d", tt, len(got.Joined), len(got.Forgot))
		}
	}
}

// What a filter worker pays for each batch when nothing has changed.
func BenchmarkControlSince(b *testing.B) {
	for _, s := range []struct {
		name string
		store
	}{{"memory", NewMemory()}, {"redis", newRedis(b, RedisConfig{Addr: testenv.Redis(b).Addr})}} {
		for _, n := range []int{1, maxEntrySeats} {
			b.Run(fmt.Sprintf("%s/last-entry-seats=%d", s.name, n), func(b *testing.B) {
				b.ReportAllocs()
				a := Announcement{Gateway: 1, All: true, TTL: time.Hour}
				for i := range event.Seat(n) {
					a.Joined = append(a.Joined, Seated{i, "user_12345"})
				}
				last := must[ControlID](b)(s.Announce(context.Background(), a))
				for b.Loop() {
					if changes, _, err := s.ControlSince(context.Background(), last); err != nil || len(changes) > 0 {
						b.Fatal(changes, err)
					}
				}
			})
		}
	}
}
