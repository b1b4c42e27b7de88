package cmd

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// One of several APIs purges, by the time of the database, however often they are
// started; and what fails is told once, and counted each time.
func TestPurger(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	sql := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	start := func() *purger {
		return newPurger(s, store.Purge{Deleted: time.Hour, Acks: time.Hour}, prometheus.NewRegistry(), log)
	}
	silent := func() {
		t.Helper()
		if err := s.SaveAcks(t.Context(), []event.Ack{{Subscriber: "ada", At: time.Now().Add(-2 * time.Hour)}}); err != nil {
			t.Fatal(err)
		}
	}
	acks := func(p *purger) float64 { return value(t, p.rows.WithLabelValues("acks")) }

	silent()
	one := start()
	if one.look(t.Context()); acks(one) != 1 {
		t.Fatalf("%v acknowledgements purged at the start, want 1; log:\n%s", acks(one), &logs)
	}
	silent()
	for range 3 {
		other := start()
		if other.look(t.Context()); acks(other) != 0 {
			t.Errorf("it is purged again as soon as an API is started")
		}
		if last := value(t, other.last); time.Since(time.Unix(int64(last), 0)).Abs() > time.Hour {
			t.Errorf("the last purge is said to be at %v", last)
		}
	}
	sql(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no' using errcode = '53100'; end $$`)
	sql(`create trigger refuse before delete on revocations execute function refuse()`)
	sql(`insert into revocations (kind, id, revoked_at, expires_at) values ('token', 'a', now(), now())`)
	due := func() { sql(`update purges set begun_at = begun_at - interval '61 minutes'`) }
	for range 2 {
		due()
		one.look(t.Context())
	}
	if acks(one) != 2 {
		t.Errorf("%v acknowledgements purged, want 2: what fails keeps the rest from being done", acks(one))
	}
	if n := value(t, one.failures.WithLabelValues("revocations")); n != 2 {
		t.Errorf("%v failures counted, want 2", n)
	}
	one.look(t.Context()) // it is due again, but not at once
	sql(`drop trigger refuse on revocations`)
	sql(`update purges set begun_at = begun_at - interval '6 minutes'`)
	one.look(t.Context())
	for text, times := range map[string]int{"can't be deleted; retrying": 1, "can be deleted again": 1} {
		if n := strings.Count(logs.String(), text); n != times {
			t.Errorf("%q is %d times in the log, want %d:\n%s", text, n, times, &logs)
		}
	}
	if n := value(t, one.rows.WithLabelValues("revocations")); n != 1 {
		t.Errorf("%v revocations purged afterwards, want 1", n)
	}
}

func value(t *testing.T, of prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := of.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue() + m.Gauge.GetValue()
}
