package store_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// TestPgBouncer: many at once use a store behind a PgBouncer that gives each transaction
// another connection, in each of pgx's modes that go through one.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	direct := testenv.Postgres(t)
	dsn := testenv.PgBouncer(t, direct)
	for _, mode := range []string{"", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			s := postgres(t, withMode(t, dsn, mode))
			var all errgroup.Group
			for n := range 40 {
				all.Go(func() error { return useStore(t.Context(), s, fmt.Sprintf("user%d%s", n, mode)) })
			}
			if err := all.Wait(); err != nil {
				t.Error(err)
			}
			if _, err := s.Import(t.Context(), imports([]filter.Spec{spec("ada", "a"), spec("bob", "b")})); err != nil {
				t.Errorf("Import: %v", err)
			}
			n := 0
			mark, err := s.Load(t.Context(), func(filter.Filter) error { n++; return nil })
			if err != nil || n < 2 {
				t.Errorf("Load: %d filters, %v", n, err)
			}
			if _, err := s.ChangesSince(t.Context(), mark, func(store.Change) error { return nil }); err != nil {
				t.Errorf("ChangesSince: %v", err)
			}
			if _, err := s.Fingerprint(t.Context(), nil); err != nil {
				t.Errorf("Fingerprint: %v", err)
			}
			if totals, err := s.AckTotals(t.Context(), event.TopicID{}, []int64{5, 5}); err != nil || totals.Subscribers < 40 {
				t.Errorf("AckTotals: %+v, %v", totals, err)
			}
			owner, err := s.Owner(t.Context())
			if err == nil {
				_, err = s.SetOwner(t.Context(), event.TopicID{1}, "events", owner)
			}
			if err != nil {
				t.Errorf("SetOwner: %v", err)
			}
			if _, err := s.DeleteAll(t.Context(), "ada"); err != nil {
				t.Errorf("DeleteAll: %v", err)
			}
			if err := s.TryWrite(t.Context()); err != nil {
				t.Errorf("TryWrite: %v", err)
			}
			if _, err := s.Purge(t.Context(), time.Hour); err != nil {
				t.Errorf("Purge: %v", err)
			}
		})
	}
}

// withMode returns dsn with a mode of pgx, unless that is "".
func withMode(t *testing.T, dsn, mode string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); mode != "" {
		q.Set("default_query_exec_mode", mode)
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// useStore does with a subscriber's filters and acknowledgements what services do.
func useStore(ctx context.Context, s *store.Postgres, subscriber string) error {
	f, err := s.Create(ctx, spec(subscriber, "purchase"))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for i := range 5 {
		if f, err = s.Update(ctx, f.ID, spec(subscriber, fmt.Sprint("type", i)), f.Revision); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if got, err := s.List(ctx, subscriber, "", 10); err != nil || len(got) != 1 || got[0].Revision != f.Revision {
			return fmt.Errorf("list: %+v, %w", got, err)
		}
	}
	if _, _, err := s.CreateOnce(ctx, spec(subscriber, "refund"), "key "+subscriber); err != nil {
		return fmt.Errorf("create once: %w", err)
	}
	ack := event.Ack{Subscriber: subscriber, At: time.Now(), Cursor: event.Cursor{Next: []int64{1, 2}, Issued: time.Now()}}
	if err := s.SaveAcks(ctx, []event.Ack{ack}); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if got, err := s.Acked(ctx, subscriber); err != nil || len(got.Cursor.Next) != 2 {
		return fmt.Errorf("acknowledged: %+v, %w", got, err)
	}
	if err := s.Revoke(ctx, auth.Revocation{Subscriber: subscriber, At: time.Now(), Expires: time.Now().Add(time.Hour)}); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if _, err := s.Delete(ctx, f.ID, 0); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}
