package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/store"
)

func TestTakePurge(t *testing.T) {
	dsn := testenv.Postgres(t)
	one, other := postgres(t, dsn), postgres(t, dsn)
	take := func(p *store.Postgres, every time.Duration, want bool) (last time.Time) {
		t.Helper()
		due, last, err := p.TakePurge(t.Context(), every)
		if err != nil || due != want {
			t.Errorf("TakePurge(%v) = %t, %v; want %t", every, due, err, want)
		}
		return last
	}
	end := func(well bool, after time.Duration) {
		t.Helper()
		if err := one.EndPurge(t.Context(), well, time.Hour, after); err != nil {
			t.Fatal(err)
		}
	}
	take(one, time.Hour, true)
	if last := take(other, time.Hour, false); !last.IsZero() { // one is at it
		t.Errorf("the last one ended at %v, want never", last)
	}
	end(false, time.Minute)
	take(other, time.Hour, false)
	end(false, 0)
	take(other, time.Hour, true)
	end(true, 0)
	if last := take(one, time.Hour, false); time.Since(last).Abs() > time.Hour {
		t.Errorf("the last one ended at %v", last)
	}
	take(one, 0, true) // by time, whoever was started since
	sql(t, dsn, `update purges set begun_at = now() + interval '1 day'`)
	take(one, time.Hour, true) // the clock was wrong
}

// What fails of a purge does not keep the rest from being done.
func TestPurgeGoesOn(t *testing.T) {
	dsn := testenv.Postgres(t)
	p := postgres(t, dsn)
	sql(t, dsn,
		`insert into revocations (kind, id, revoked_at, expires_at) values ('token', 'a', now(), now())`,
		`insert into idempotency_keys (key, request, filter_id, created_at) values ('a', '', gen_random_uuid(), '-infinity')`,
		`insert into import_keys (key, created_at) values ('a', '-infinity')`,
		`insert into filter_counts values ('ada', 0, 0, 0, 0, 0)`,
		`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$`,
		`create trigger refuse before delete on revocations execute function refuse()`)
	old, young := ack("old", 1), ack("young", 1)
	young.At = time.Now().Truncate(time.Microsecond)
	save(t, p, old, young)
	gone := create(t, p, spec("bob", "purchase"))
	if _, err := p.Delete(t.Context(), gone.ID, 0); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, d := range (store.Purge{Acks: time.Hour}).Run(t.Context(), p) {
		got[d.What] = fmt.Sprintf("%d %t", d.Rows, d.Err == nil)
	}
	want := map[string]string{
		"revocations": "0 false", "idempotency_keys": "1 true", "import_keys": "1 true",
		"filters": "1 true", "filter_counts": "2 true", "acks": "1 true",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows, and whether that went well:\n got %v\nwant %v", got, want)
	}
	wantAck(t, p, young)
	for _, d := range (store.Purge{}).Run(t.Context(), p) {
		if d.What == "acks" {
			t.Error("acknowledgements are purged without being asked for")
		}
	}
}

func TestForgetAcks(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		const old = 5
		for i := range old {
			save(t, s, ack(fmt.Sprintf("old%d", i), 1))
		}
		young := ack("young", 1)
		young.At = ackedAt.Add(time.Second)
		save(t, s, young)
		forget := func(before time.Time, limit int, want int64) {
			t.Helper()
			if n, err := s.ForgetAcks(t.Context(), before, limit); n != want || err != nil {
				t.Errorf("ForgetAcks(%v, %d) = %d, %v; want %d", before, limit, n, err, want)
			}
		}
		count := func(before time.Time, want int64) {
			t.Helper()
			if n, err := s.CountAcks(t.Context(), before); n != want || err != nil {
				t.Errorf("CountAcks(%v) = %d, %v; want %d", before, n, err, want)
			}
		}
		count(ackedAt, 0)
		forget(ackedAt, 10, 0)
		count(ackedAt.Add(time.Microsecond), old)
		forget(ackedAt.Add(time.Second), 2, 2)
		forget(ackedAt.Add(time.Second), 10, old-2)
		count(ackedAt.Add(time.Hour), 1)
		wantAck(t, s, young)
	})
}

// To forget and to save at the same time is no deadlock, and who is saved meanwhile stays.
func TestForgetAcksBesideSaves(t *testing.T) {
	p := postgres(t, testenv.Postgres(t))
	var many, some []event.Ack
	for i := range 300 {
		many = append(many, ack(fmt.Sprintf("s%03d", i), 1))
		if i%2 == 0 {
			some = append(some, many[i])
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := p.ForgetAcks(ctx, ackedAt.Add(time.Second), 50); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		save(t, p, many...)
		for i := range some {
			some[i].At = time.Now()
		}
		save(t, p, some...)
		for _, a := range some {
			if _, err := p.Acked(t.Context(), a.Subscriber); err != nil {
				t.Fatalf("%s, who just acknowledged: %v", a.Subscriber, err)
			}
		}
	}
	stop()
	wg.Wait()
}
