package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
	"eventstream/store"
)

func TestCreateOnce(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		made, again, err := s.CreateOnce(ctx, spec("ada", "purchase"), "key")
		if err != nil || again || made.Revision != 1 {
			t.Fatalf("CreateOnce = %+v, %t, %v", made, again, err)
		}
		if _, err := s.Update(ctx, made.ID, spec("ada", "refund"), 0); err != nil {
			t.Fatal(err)
		}
		got, again, err := s.CreateOnce(ctx, spec("ada", "purchase"), "key")
		wantFilter(t, "CreateOnce again", got, err, made)
		if !again {
			t.Error("CreateOnce again says that it is the first")
		}
		_, _, err = s.CreateOnce(ctx, spec("ada", "purchase", "refund"), "key")
		wantErr(t, "CreateOnce of another filter", err, store.ErrKeyReused)
		other, again, err := s.CreateOnce(ctx, spec("ada", "purchase"), "Key")
		if err != nil || again || other.ID == made.ID {
			t.Errorf("CreateOnce with another key = %+v, %t, %v", other, again, err)
		}
		if _, _, err := s.CreateOnce(ctx, filter.Spec{}, "new"); !errors.As(err, new(*filter.Invalid)) {
			t.Errorf("CreateOnce of what is no filter: %v", err)
		}
		_, again, err = s.CreateOnce(ctx, spec("ada", "a"), "new")
		if err != nil || again {
			t.Errorf("a refused filter has taken its key: %t, %v", again, err)
		}
	})
}

// TestCreateOnceAtOnce has many clients, or one that is impatient, try together.
func TestCreateOnceAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ids := make([]filter.ID, 8)
		firsts := make([]bool, len(ids))
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				f, again, err := s.CreateOnce(t.Context(), spec("ada", "purchase"), "key")
				if err != nil {
					t.Error(err)
				}
				ids[i], firsts[i] = f.ID, !again
			})
		}
		wg.Wait()
		first := 0
		for i := range ids {
			if firsts[i] {
				first++
			}
			if ids[i] != ids[0] {
				t.Errorf("filters %v, want one", ids)
			}
		}
		list, err := s.List(t.Context(), "ada", "", 10)
		if err != nil || len(list) != 1 || first != 1 {
			t.Errorf("%d filters, %d of them the first, %v; want 1", len(list), first, err)
		}
	})
}

func TestKeysExpire(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			testExpiry(t, &store.Memory{}, func(d time.Duration) { time.Sleep(d) })
		})
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := testenv.Postgres(t)
		s, conn := postgres(t, dsn), connect(t, dsn)
		testExpiry(t, s, func(d time.Duration) {
			for _, table := range []string{"idempotency_keys", "import_keys"} {
				if _, err := conn.Exec(t.Context(), `update `+table+` set created_at = created_at - $1::interval`, d); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

func testExpiry(t *testing.T, s Store, pass func(time.Duration)) {
	ctx := t.Context()
	try := func(want bool) filter.ID {
		t.Helper()
		f, again, err := s.CreateOnce(ctx, spec("ada", "purchase"), "key")
		if err != nil || again != want {
			t.Errorf("CreateOnce = %+v, %t, %v; want %t", f, again, err, want)
		}
		return f.ID
	}
	first := try(false)
	pass(store.KeyLife - time.Minute)
	if _, err := s.Purge(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	try(true)
	pass(time.Minute)
	if second := try(false); second == first {
		t.Error("the key was remembered after its time")
	}
	try(true)
	pass(store.KeyLife)
	if _, err := s.Purge(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CreateOnce(ctx, spec("ada", "other"), "key"); err != nil {
		t.Errorf("another filter after the key's time: %v", err)
	}
	for range 2 { // one of them after Purge
		if _, again, err := s.ImportOnce(ctx, specs(3, nil), "key"); again || err != nil {
			t.Errorf("an import after the key's time: %t, %v", again, err)
		}
		pass(store.KeyLife)
		if _, again, err := s.ImportOnce(ctx, specs(4, nil), "key"); again || err != nil {
			t.Errorf("another import after the key's time: %t, %v", again, err)
		}
		pass(store.KeyLife)
		if _, err := s.Purge(ctx, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

// specs yields n filters, and then an error if there is one.
func specs(n int, err error) iter.Seq2[filter.Spec, error] {
	return func(yield func(filter.Spec, error) bool) {
		for i := range n {
			if !yield(spec(fmt.Sprint("user_", i), "purchase"), nil) {
				return
			}
		}
		if err != nil {
			yield(filter.Spec{}, err)
		}
	}
}

func TestImport(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		r := load(t, s)
		n, err := s.Import(ctx, specs(2500, nil))
		if err != nil || n != 2500 {
			t.Fatalf("Import = %d, %v; want 2500", n, err)
		}
		r.follow(t, s)
		r.wantSame(t, s)
		if len(r.all) != 2500 {
			t.Errorf("a reader has %d filters, want 2500", len(r.all))
		}
		list, err := s.List(ctx, "user_77", "", 10)
		if err != nil || len(list) != 1 || list[0].Revision != 1 || list[0].ID[14] != '7' {
			t.Errorf("List = %+v, %v", list, err)
		}
		if n, err := s.Import(ctx, specs(0, nil)); n != 0 || err != nil {
			t.Errorf("Import of nothing = %d, %v", n, err)
		}
	})
}

// TestImportIsAllOrNothing ends imports late, by errors of all kinds.
func TestImportIsAllOrNothing(t *testing.T) {
	odd := errors.New("a line is wrong")
	each(t, func(t *testing.T, s Store) {
		_, err := s.Import(t.Context(), specs(1000, odd))
		wantErr(t, "Import with an error", err, odd)
		invalid := func(yield func(filter.Spec, error) bool) {
			_ = yield(spec("ada", "purchase"), nil) && yield(filter.Spec{SubscriberID: "ada"}, nil)
		}
		if _, err := s.Import(t.Context(), invalid); !errors.As(err, new(*filter.Invalid)) {
			t.Errorf("Import of what is no filter: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cut := func(yield func(filter.Spec, error) bool) {
			for sp := range specs(1000, nil) {
				if !yield(sp, nil) {
					return
				}
			}
			cancel()
		}
		if _, err := s.Import(ctx, cut); err == nil {
			t.Error("an import that was cut off has no error")
		}
		if list, err := s.List(t.Context(), "", "", 10); err != nil || len(list) > 0 {
			t.Errorf("List = %d filters, %v; want none", len(list), err)
		}
	})
}

func TestImportOnce(t *testing.T) {
	odd := errors.New("a line is wrong")
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		once := func(key string, n int, flaw error) (int64, bool, error) {
			return s.ImportOnce(ctx, specs(n, flaw), key)
		}
		_, _, err := once("key", 3, odd)
		wantErr(t, "ImportOnce with an error", err, odd)
		if n, again, err := once("key", 3, nil); n != 3 || again || err != nil {
			t.Errorf("ImportOnce after one that was refused = %d, %t, %v", n, again, err)
		}
		if n, again, err := once("key", 3, nil); n != 3 || !again || err != nil {
			t.Errorf("ImportOnce again = %d, %t, %v", n, again, err)
		}
		_, _, err = once("key", 4, nil)
		wantErr(t, "ImportOnce of others", err, store.ErrKeyReused)
		_, _, err = once("key", 3, odd)
		wantErr(t, "ImportOnce again with an error", err, odd)
		if n, again, err := once("Key", 3, nil); n != 3 || again || err != nil {
			t.Errorf("ImportOnce with another key = %d, %t, %v", n, again, err)
		}
		if _, again, err := s.CreateOnce(ctx, spec("ada", "purchase"), "key"); again || err != nil {
			t.Errorf("CreateOnce with the key of an import = %t, %v", again, err)
		}
		var firsts atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				n, again, err := once("many", 5, nil)
				if n != 5 || err != nil {
					t.Errorf("one of many = %d, %v", n, err)
				}
				if !again {
					firsts.Add(1)
				}
			})
		}
		wg.Wait()
		list, err := s.List(ctx, "", "", 100)
		if err != nil || len(list) != 3+3+1+5 || firsts.Load() != 1 {
			t.Errorf("%d filters, %v; want 12; %d were the first of many", len(list), err, firsts.Load())
		}
	})
}

func TestDeleteAll(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		ctx := t.Context()
		for range 3 {
			create(t, s, spec("ada", "purchase"))
		}
		bobs := create(t, s, spec("bob", "purchase"))
		r := load(t, s)
		for _, want := range []int64{3, 0} {
			if n, err := s.DeleteAll(ctx, "ada"); n != want || err != nil {
				t.Errorf("DeleteAll = %d, %v; want %d", n, err, want)
			}
		}
		r.follow(t, s)
		r.wantSame(t, s)
		list, err := s.List(ctx, "", "", 10)
		if err != nil || len(list) != 1 || list[0].ID != bobs.ID {
			t.Errorf("List = %+v, %v; want only bob's", list, err)
		}
	})
}
