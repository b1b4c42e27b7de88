package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/store"
)

var ackedAt = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC) // to the microsecond, as it is kept

// ack returns an acknowledgement with something in every part.
func ack(subscriber string, next ...int64) event.Ack {
	return event.Ack{Subscriber: subscriber, At: ackedAt, Cursor: event.Cursor{
		Topic: event.TopicID{1, 15: 255}, Issued: time.Unix(1767323045, 0), Next: next,
		Addr: event.Address{Gateway: math.MaxUint64 - 1, Seat: math.MaxUint32}, Old: event.Address{Gateway: 7, Seat: 1},
	}}
}

func save(t *testing.T, s Store, acks ...event.Ack) {
	t.Helper()
	if err := s.SaveAcks(t.Context(), acks); err != nil {
		t.Fatalf("SaveAcks(%v) = %v", acks, err)
	}
}

// ackText tells all of an acknowledgement but the time zones.
func ackText(a event.Ack) string {
	return fmt.Sprintf("%s at %s: %v of %s", a.Subscriber, a.At.UTC().Format(time.RFC3339Nano), a.Cursor.Next, a.Cursor.String())
}

func wantAck(t *testing.T, s Store, want event.Ack) {
	t.Helper()
	got, err := s.Acked(t.Context(), want.Subscriber)
	if err != nil || ackText(got) != ackText(want) {
		t.Errorf("Acked(%q) =\n%s, %v; want\n%s, nil", want.Subscriber, ackText(got), err, ackText(want))
	}
}

func TestLifeOfAnAck(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		for _, id := range []string{"ada", "", "\x00", "\xff"} {
			_, err := s.Acked(ctx, id)
			wantErr(t, fmt.Sprintf("Acked(%q) before", id), err, store.ErrNotFound)
			wantErr(t, fmt.Sprintf("ForgetAck(%q) before", id), s.ForgetAck(ctx, id), store.ErrNotFound)
		}
		save(t, s)
		save(t, s, ack("ada", 3, 0, math.MaxInt64), ack("日本語/😀"))
		wantAck(t, s, ack("ada", 3, 0, math.MaxInt64))
		wantAck(t, s, ack("日本語/😀"))
		if err := s.ForgetAck(ctx, "ada"); err != nil {
			t.Errorf("ForgetAck = %v", err)
		}
		_, err := s.Acked(ctx, "ada")
		wantErr(t, "Acked afterwards", err, store.ErrNotFound)
		wantAck(t, s, ack("日本語/😀"))
		save(t, s, ack("ada", 1, 1, 1))
		wantAck(t, s, ack("ada", 1, 1, 1))
	})
}

// TestAcksMerge has each sequence saved one by one, and as one batch.
func TestAcksMerge(t *testing.T) {
	other := func(a event.Ack) event.Ack {
		a.Cursor.Topic = event.TopicID{2}
		return a
	}
	moved := func(a event.Ack, by time.Duration) event.Ack {
		a.At, a.Cursor.Issued = a.At.Add(by), a.Cursor.Issued.Add(by)
		a.Cursor.Addr, a.Cursor.Old = event.Address{Gateway: 9, Seat: 9}, event.Address{}
		return a
	}
	early := moved(ack("ada", 9, 9), -time.Hour)
	early.At = ackedAt
	for _, tt := range []struct {
		what  string
		saved []event.Ack
		want  event.Ack
	}{
		{"forward", []event.Ack{ack("ada", 1, 2), moved(ack("ada", 3, 4), time.Hour)}, moved(ack("ada", 3, 4), time.Hour)},
		{"partly back", []event.Ack{ack("ada", 1, 9), moved(ack("ada", 3, 4), time.Hour)}, moved(ack("ada", 3, 9), time.Hour)},
		{"back", []event.Ack{ack("ada", 9, 9), moved(ack("ada", 3, 4), -time.Hour)}, early},
		{"more partitions", []event.Ack{ack("ada", 9), ack("ada", 3, 4, 5)}, ack("ada", 9, 4, 5)},
		{"fewer partitions", []event.Ack{ack("ada", 3, 4, 5), ack("ada", 9)}, ack("ada", 9, 4, 5)},
		{"from none", []event.Ack{ack("ada"), ack("ada", 1)}, ack("ada", 1)},
		{"to none", []event.Ack{ack("ada", 1), ack("ada")}, ack("ada", 1)},
		{"none at all", []event.Ack{ack("ada"), ack("ada")}, ack("ada")},
		{"another topic", []event.Ack{ack("ada", 9, 9, 9), other(ack("ada", 1, 1))}, other(ack("ada", 1, 1))},
		{"there and back", []event.Ack{ack("ada", 9, 9), other(ack("ada", 1, 1)), ack("ada", 2, 2)}, ack("ada", 2, 2)},
	} {
		each(t, func(t *testing.T, s Store) {
			for _, a := range tt.saved {
				save(t, s, a)
			}
			wantAck(t, s, tt.want)
			t.Log("as one batch: " + tt.what)
			if err := s.ForgetAck(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
			save(t, s, slices.Concat([]event.Ack{ack("bob", 1)}, tt.saved, []event.Ack{ack("abe", 2)})...)
			wantAck(t, s, tt.want)
			wantAck(t, s, ack("abe", 2))
		})
	}
}

// TestAcksFromSeveralGateways: nobody waits for ever, and no furthest position is lost.
func TestAcksFromSeveralGateways(t *testing.T) {
	const writers, batches, subscribers, partitions = 6, 30, 40, 3
	each(t, func(t *testing.T, s Store) {
		var mu sync.Mutex
		furthest := make(map[string][]int64)
		var wg sync.WaitGroup
		for w := range writers {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			wg.Go(func() {
				for range batches {
					var batch []event.Ack
					for _, n := range rng.Perm(subscribers)[:subscribers/2] {
						a := ack("s"+strconv.Itoa(n), rng.Int64N(1e6), rng.Int64N(1e6), rng.Int64N(1e6))
						batch = append(batch, a)
					}
					if err := s.SaveAcks(t.Context(), batch); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, a := range batch {
						if furthest[a.Subscriber] == nil {
							furthest[a.Subscriber] = make([]int64, partitions)
						}
						for p, n := range a.Cursor.Next {
							furthest[a.Subscriber][p] = max(furthest[a.Subscriber][p], n)
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, next := range furthest {
			wantAck(t, s, ack(id, next...))
		}
	})
}

func TestInvalidAckIsNotSaved(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		for _, id := range []string{"", "a b", "\x00", "\xff"} {
			err := s.SaveAcks(t.Context(), []event.Ack{ack("ada", 1), ack(id, 1)})
			if err == nil || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("SaveAcks for %q: error %v, want one that says what is wrong with the id", id, err)
			}
		}
		_, err := s.Acked(t.Context(), "ada")
		wantErr(t, "Acked of the valid one beside it", err, store.ErrNotFound)
	})
}

// Earlier versions took times from clients, and saved them.
func TestAckFromTheFuture(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		forged := ack("ada", 1, 2)
		forged.At, forged.Cursor.Issued = time.Unix(1<<40, 0), time.Unix(1<<40, 0)
		save(t, s, forged, ack("bob", 1))
		one, err := s.Acked(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.Acks(t.Context(), "", 10)
		if err != nil || len(list) != 2 {
			t.Fatalf("Acks = %v, %v", list, err)
		}
		for _, a := range []event.Ack{one, list[0]} {
			if late := time.Now().Add(time.Second); a.At.After(late) || a.Cursor.Issued.After(late) {
				t.Errorf("acknowledged at %v, with a cursor of %v", a.At, a.Cursor.Issued)
			}
			if _, err := json.Marshal(a.At); err != nil {
				t.Error(err)
			}
			if _, err := event.ParseCursor(a.Cursor.String()); err != nil {
				t.Error(err)
			}
		}
		next := ack("ada", 3, 4)
		next.At = time.Now().Truncate(time.Microsecond)
		save(t, s, next)
		one, err = s.Acked(t.Context(), "ada")
		if late := time.Since(next.At); err != nil || one.At.Before(next.At) || one.At.Sub(next.At) > late {
			t.Errorf("the next one is of %v, %v; want %v", one.At, err, next.At)
		}
	})
}

func TestListAcksInPages(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ids := []string{"B", "a", "a!", "aa", "b", "z", "ä", "😀"} // as bytes go, whatever the database's language
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(ids)) {
			save(t, s, ack(ids[i], int64(i)))
		}
		for _, limit := range []int{1, 3, 8, 100} {
			var got []string
			for after, more := "", true; more; {
				page, err := s.Acks(t.Context(), after, limit)
				if err != nil || len(page) > limit {
					t.Fatalf("Acks(%q, %d) = %d of them, %v", after, limit, len(page), err)
				}
				for _, a := range page {
					got = append(got, a.Subscriber)
					if a.Cursor.Next[0] != int64(slices.Index(ids, a.Subscriber)) {
						t.Errorf("in a list %s", ackText(a))
					}
				}
				if more = len(page) > 0; more {
					after = page[len(page)-1].Subscriber
				}
			}
			if !slices.Equal(got, ids) {
				t.Errorf("in pages of %d: %q, want %q", limit, got, ids)
			}
		}
	})
}

func TestAckTotals(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		topic := ack("").Cursor.Topic
		totals := func(what string, next []int64, want event.AckTotals) {
			t.Helper()
			got, err := s.AckTotals(t.Context(), topic, next)
			if err != nil || got.Subscribers != want.Subscribers || got.MaxBehind != want.MaxBehind || !got.Oldest.Equal(want.Oldest) {
				t.Errorf("%s: AckTotals = %+v, %v; want %+v, nil", what, got, err, want)
			}
		}
		totals("of nobody", []int64{100, 100}, event.AckTotals{})
		old := ack("bob", 70)
		old.At = ackedAt.Add(-time.Hour)
		elsewhere := ack("cyd", 1, 1)
		elsewhere.Cursor.Topic = event.TopicID{9}
		save(t, s, ack("ada", 90, 95), old, elsewhere, ack("dan", 200, 200, 200))
		totals("of four", []int64{100, 100}, event.AckTotals{Subscribers: 4, MaxBehind: 130, Oldest: old.At})
		totals("with a partition less", []int64{100}, event.AckTotals{Subscribers: 4, MaxBehind: 30, Oldest: old.At})
		totals("without positions", nil, event.AckTotals{Subscribers: 4, Oldest: old.At})
	})
}

func TestAckersShareNoMemoryWithTheStore(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		mine := ack("ada", 1, 2)
		save(t, s, mine)
		mine.Cursor.Next[0] = 77
		got, err := s.Acked(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		got.Cursor.Next[1] = 77
		list, err := s.Acks(t.Context(), "", 1)
		if err != nil || len(list) != 1 {
			t.Fatalf("Acks = %v, %v", list, err)
		}
		list[0].Cursor.Next[1] = 77
		wantAck(t, s, ack("ada", 1, 2))
	})
}

// TestRandomAcks compares what is kept with a plain map of merged acknowledgements.
func TestRandomAcks(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		rng, want := rand.New(rand.NewPCG(3, 4)), make(map[string]event.Ack)
		for round := range 40 {
			var batch []event.Ack
			for range rng.IntN(20) {
				a := ack("s"+strconv.Itoa(rng.IntN(10)), make([]int64, rng.IntN(5))...)
				for p := range a.Cursor.Next {
					a.Cursor.Next[p] = rng.Int64N(50)
				}
				a.Cursor.Topic[0] = byte(round / 20) // it is made again once
				a.Cursor.Addr.Seat = event.Seat(rng.Uint32())
				a.At = ackedAt.Add(time.Duration(rng.IntN(100)) * time.Microsecond)
				batch = append(batch, a)
				if old, ok := want[a.Subscriber]; ok {
					a = old.Merge(a)
				}
				want[a.Subscriber] = a
			}
			save(t, s, batch...)
		}
		for _, a := range want {
			wantAck(t, s, a)
		}
		list, err := s.Acks(t.Context(), "", 100)
		if err != nil || len(list) != len(want) {
			t.Errorf("Acks = %d, %v; want %d", len(list), err, len(want))
		}
	})
}
