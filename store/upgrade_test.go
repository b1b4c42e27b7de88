package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// TestUpgrade migrates a database that a version of November 2026 made and filled. All that
// was in it is there and works, and a reader that had begun before goes on.
func TestUpgrade(t *testing.T) {
	ctx, dsn := t.Context(), testenv.Postgres(t)
	conn := connect(t, dsn)
	runSQL(t, conn, "testdata/schema-2026-11.sql")
	runSQL(t, conn, "testdata/data-2026-11.sql")
	s := migrating(t, dsn)
	wantStates(t, s, "in place")
	before := load(t, s)
	s = postgres(t, dsn)

	ada, gone, again := filter.ID("01a22b1c-b019-7dd2-a645-d234ddd115a9"), filter.ID("01a22b1c-b024-76f5-b2d7-c82ff94a8ec0"), filter.ID("01a22b1c-b02d-73d8-bae3-ec8725eb16d8")
	r := load(t, s)
	var have []string
	for _, f := range r.all {
		have = append(have, fmt.Sprintf("%s%v%d", f.SubscriberID, f.EventTypes, f.Revision))
	}
	slices.Sort(have)
	if want := []string{"ada[a]1", "ada[purchase]2", "bob[login]1", "cy[signup]1", "dan[b]1"}; !slices.Equal(have, want) {
		t.Errorf("filters %v, want %v", have, want)
	}
	if !maps.EqualFunc(before.all, r.all, func(a, b store.Change) bool { return a.Revision == b.Revision }) {
		t.Errorf("before the migration a reader had %v, after it %v", before.all, r.all)
	}
	if changes, next := changesOf(t, s, before.mark); len(changes) != 0 || next == "" {
		t.Errorf("a reader from before finds changes %v", changes)
	}
	got, err := s.Update(ctx, ada, spec("ada", "refund"), 2)
	wantFilter(t, "Update", got, err, filter.Filter{ID: ada, Revision: 3, Spec: spec("ada", "refund")})
	_, err = s.Get(ctx, gone)
	wantErr(t, "Get of a deleted filter", err, store.ErrNotFound)
	before.follow(t, s)
	before.wantSame(t, s)

	f, same, err := s.CreateOnce(ctx, spec("cy", "signup"), "key-1")
	if err != nil || !same || f.ID != again {
		t.Errorf("CreateOnce with a key from before = %+v, %t, %v; want filter %s, true", f, same, err, again)
	}
	n, same, err := s.ImportOnce(ctx, imports([]filter.Spec{spec("ada", "a"), spec("dan", "b")}), "import-1")
	if err != nil || !same || n != 2 {
		t.Errorf("ImportOnce with a key from before = %d, %t, %v; want 2, true", n, same, err)
	}

	s.Limit(filter.Quota{Filters: 2})
	_, err = s.Create(ctx, spec("ada", "one more"))
	if _, ok := errors.AsType[*filter.QuotaError](err); !ok {
		t.Errorf("Create of a third filter of ada = %v, want it refused", err)
	}
	if n, err := s.CountOld(ctx); n != 0 || err != nil {
		t.Errorf("CountOld = %d, %v; all are counted", n, err)
	}

	wantAck(t, s, ack("ada", 5, 7))
	save(t, s, ack("ada", 6, 2), ack("bob", 1))
	wantAck(t, s, ack("ada", 6, 7))

	keys, err := s.APIKeys(ctx)
	slices.SortFunc(keys, func(a, b auth.APIKey) int { return b.Revoked.Compare(a.Revoked) })
	if err != nil || len(keys) != 2 || keys[0].Revoked.IsZero() || keys[1].ID != "0123456789ab" || keys[1].Scope != auth.ScopeWrite || keys[1].Hash != [32]byte{1, 2, 3} {
		t.Errorf("API keys %+v, %v", keys, err)
	}
	var revoked []string
	_, err = s.RevocationsSince(ctx, "", func(r auth.Revocation) error { revoked = append(revoked, r.Subscriber); return nil })
	if err != nil || !slices.Equal(revoked, []string{"eve"}) {
		t.Errorf("revoked are %v, %v; want eve", revoked, err)
	}
	o, err := s.Owner(ctx)
	if err != nil || o.Topic != (event.TopicID{9}) || o.Name != "events" {
		t.Errorf("Owner = %+v, %v", o, err)
	}
	if due, _, err := s.TakePurge(ctx, time.Hour); err != nil || !due {
		t.Errorf("TakePurge = %t, %v", due, err)
	}
	if err := errors.Join(s.Ping(ctx), s.TryWrite(ctx)); err != nil {
		t.Error(err)
	}
	for _, done := range (store.Purge{}).Run(ctx, s) {
		if done.Err != nil {
			t.Errorf("purge of %s: %v", done.What, done.Err)
		}
	}
}
