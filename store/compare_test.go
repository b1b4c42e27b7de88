package store_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// TestHashIsPostgres compares our hash of a UUID with PostgreSQL's.
func TestHashIsPostgres(t *testing.T) {
	conn := connect(t, testenv.Postgres(t))
	rng := rand.New(rand.NewPCG(1, 2))
	var ids [][16]byte
	var seeds []int64
	for range 300 {
		var id [16]byte
		for i := range id {
			id[i] = byte(rng.Uint32() >> rng.IntN(8))
		}
		ids, seeds = append(ids, id), append(seeds, rng.Int64()>>rng.IntN(64))
	}
	seeds[0], seeds[1], seeds[2] = 0, -1, 1<<40
	rows, err := conn.Query(t.Context(), `
		select uuid_hash(id), uuid_hash_extended(id, seed) from unnest($1::uuid[], $2::bigint[]) with ordinality as t (id, seed, n) order by n`, ids, seeds)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var short int32
		var long int64
		if err := rows.Scan(&short, &long); err != nil {
			t.Fatal(err)
		}
		if got := filter.HashID(ids[n], seeds[n]); int64(got) != long {
			t.Errorf("HashID(%x, %d) = %x, PostgreSQL has %x", ids[n], seeds[n], got, uint64(long))
		}
		if got := uint32(filter.HashID(ids[n], 0)); int32(got) != short {
			t.Errorf("HashID(%x, 0) = %x, PostgreSQL has %x", ids[n], got, uint32(short))
		}
	}
	if rows.Err() != nil || n != len(ids) {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

// everything yields all filters, page by page.
func everything(t *testing.T, s Store) iter.Seq[filter.Filter] {
	return func(yield func(filter.Filter) bool) {
		for after := filter.ID(""); ; {
			page, err := s.List(t.Context(), "", after, 500)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range page {
				if !yield(f) {
					return
				}
				after = f.ID
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		rng := rand.New(rand.NewPCG(3, 4))
		m := load(t, s).mark
		if _, err := s.Import(t.Context(), specs(2500, nil)); err != nil {
			t.Fatal(err)
		}
		for i, f := range slices.Collect(everything(t, s)) {
			var err error
			switch rng.IntN(4) {
			case 0:
				_, err = s.Delete(t.Context(), f.ID, 0)
			case 1:
				_, err = s.Update(t.Context(), f.ID, spec(f.SubscriberID, fmt.Sprint("t", i)), 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			if i == 400 {
				break
			}
		}
		want, some := new(filter.Fingerprint), new(filter.Fingerprint)
		holds := func(subscriber string) bool { return subscriber[len(subscriber)-1]%3 == 0 }
		ranges := []int32{0, 1, 500, 1023}
		inRanges := make(map[filter.ID]bool)
		for f := range everything(t, s) {
			id := uuid.MustParse(string(f.ID))
			want.Add(id, f.Revision)
			if holds(f.SubscriberID) {
				some.Add(id, f.Revision)
			}
			if slices.Contains(ranges, filter.RangeOf(id)) {
				inRanges[f.ID] = true
			}
		}
		if got, err := s.Fingerprint(t.Context(), nil); err != nil || *got != *want {
			t.Errorf("Fingerprint of all is not the sum of all, %v", err)
		}
		if got, err := s.Fingerprint(t.Context(), holds); err != nil || *got != *some {
			t.Errorf("Fingerprint of some is not the sum of some, %v", err)
		}
		changes := 0
		err := s.LoadRanges(t.Context(), m, ranges, func(store.Change) error { changes++; return nil }, func(f filter.Filter) error {
			if !inRanges[f.ID] {
				t.Errorf("LoadRanges has filter %s, which is in none of them, or comes twice", f.ID)
			}
			delete(inRanges, f.ID)
			return nil
		})
		if err != nil || len(inRanges) > 0 || changes != 2500 {
			t.Errorf("LoadRanges: %v, %d filters are missing, and %d changes, want 2500", err, len(inRanges), changes)
		}
		wantErr(t, "LoadRanges after no mark", s.LoadRanges(t.Context(), "what", nil, nil, nil), store.ErrMarkLost)
	})
}
