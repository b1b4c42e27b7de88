package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// lanes is a Lanes that says what it is told to.
type lanes struct {
	mu        sync.Mutex
	topic     lane.Topic
	next      [][]int64 // by shard
	topicErr  error
	positions error
	gateways
}

func (l *lanes) set(change func(*lanes)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *lanes) Topic(context.Context) (lane.Topic, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topic, l.topicErr
}

func (l *lanes) Positions(_ context.Context, sh lane.Shard, n int32) ([]lane.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sh.Of != l.topic.Shards || n != l.topic.Partitions {
		return nil, fmt.Errorf("asked for %d partitions of shard %s", n, sh)
	}
	var all []lane.Position
	for p := range n {
		all = append(all, lane.Position{Partition: p, Next: l.next[sh.Index][p]})
	}
	return all, l.positions
}

var (
	topicID = event.TopicID{1, 2, 3}
	ackTime = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
)

func ack(subscriber string, next ...int64) event.Ack {
	return event.Ack{Subscriber: subscriber, At: ackTime, Cursor: event.Cursor{Topic: topicID, Issued: ackTime, Next: next}}
}

func saved(t *testing.T, acks ...event.Ack) *store.Memory {
	t.Helper()
	m := &store.Memory{}
	if err := m.SaveAcks(t.Context(), acks); err != nil {
		t.Fatal(err)
	}
	return m
}

// oneShard has matched 100 offsets of partition 0 and 50 of partition 1.
func oneShard() *lanes {
	return &lanes{topic: lane.Topic{ID: topicID, Partitions: 2, Shards: 1}, next: [][]int64{{100, 50}}}
}

func TestReadAck(t *testing.T) {
	other := ack("moved", 1, 2)
	other.Cursor.Topic = event.TopicID{9}
	s := startBeside(t, api.Config{}, saved(t, ack("ada", 90, 50), ack("a/b?é", 120, 49), ack("grown", 99), other), &publisher{}, oneShard())
	for _, tt := range []struct {
		id  string
		ack event.Ack
		lag string
	}{
		{"ada", ack("ada", 90, 50), `{"offsets":10,"partitions":{"0":10,"1":0}}`},
		{"a/b?é", ack("a/b?é", 120, 49), `{"offsets":1,"partitions":{"0":0,"1":1}}`},
		{"grown", ack("grown", 99), `{"offsets":51,"partitions":{"0":1,"1":50}}`},
		{"moved", other, `null,"lag_unknown":"it was acknowledged in a topic that was deleted and made again"`},
	} {
		a := s.do("GET", "/subscribers/"+url.PathEscape(tt.id)+"/ack", "")
		want(t, "status", a.status, 200)
		want(t, "Content-Type", a.header.Get("Content-Type"), "application/json")
		want(t, "body", a.body, fmt.Sprintf(`{"subscriber_id":%q,"cursor":%q,"acked_at":"2026-01-02T03:04:05.000006Z","lag":%s}`+"\n",
			tt.id, tt.ack.Cursor.String(), tt.lag))
	}
}

func TestLagUnknown(t *testing.T) {
	down := errors.New("secret host is down")
	for _, tt := range []struct {
		change func(*lanes)
		want   string
	}{
		{func(l *lanes) { l.topicErr = lane.ErrNoTopic }, "no filter service has started yet"},
		{func(l *lanes) { l.topicErr = down }, "the lanes can't be read now; the log tells why"},
		{func(l *lanes) { l.positions = down }, "the lanes can't be read now; the log tells why"},
		{func(l *lanes) { l.next[0][1] = -1 }, "partition 1 has no position in the lanes yet"},
	} {
		l := oneShard()
		tt.change(l)
		s := startBeside(t, api.Config{}, saved(t, ack("ada", 90, 50)), &publisher{}, l)
		for _, path := range []string{"/subscribers/ada/ack", "/subscribers?durable=true"} {
			a := s.do("GET", path, "")
			want(t, "status", a.status, 200)
			if !strings.Contains(a.body, `"lag":null,"lag_unknown":"`+tt.want+`"`) {
				t.Errorf("GET %s: %s; want lag null, and %q", path, a.body, tt.want)
			}
		}
		testenv.Eventually(t, 10*time.Second, func() error { // the count of the durable ones may be about to tell it
			if told := strings.Contains(s.log.String(), down.Error()); told != strings.Contains(tt.want, "log") {
				return fmt.Errorf("%s: the log tells of it: %t:\n%s", tt.want, told, s.log)
			}
			return nil
		})
	}
}

func TestForgetAck(t *testing.T) {
	s := startBeside(t, api.Config{}, saved(t, ack("ada", 1), ack("bob", 1)), &publisher{}, oneShard())
	a := s.do("DELETE", "/subscribers/ada/ack", "")
	want(t, "status", a.status, 204)
	want(t, "body", a.body, "")
	for _, method := range []string{"DELETE", "GET"} {
		a := s.do(method, "/subscribers/ada/ack", "")
		want(t, method+" afterwards: status", a.status, 404)
		want(t, method+" afterwards: body", a.body, `{"type":"urn:eventstream:problem:ack-not-found","title":"This subscriber has acknowledged nothing","status":404,`+
			`"detail":"it never connected with durable=true, or what it acknowledged was deleted","instance":"/subscribers/ada/ack"}`+"\n")
	}
	want(t, "status of another", s.do("GET", "/subscribers/bob/ack", "").status, 200)
}

func TestListSubscribers(t *testing.T) {
	ids := []string{"B", "a", "a/b?&=é", "c", "d"}
	var acks []event.Ack
	for i, id := range ids {
		acks = append(acks, ack(id, 100-int64(i), 50))
	}
	s := startBeside(t, api.Config{}, saved(t, acks...), &publisher{}, oneShard())
	for _, limit := range []int{1, 2, 5, 6} {
		var got []string
		for cursor, more := "", true; more; {
			a := s.do("GET", fmt.Sprintf("/subscribers?durable=true&limit=%d%s", limit, cursor), "")
			var page struct {
				Subscribers []struct {
					ID  string `json:"subscriber_id"`
					Lag struct {
						Offsets    int
						Partitions map[string]int
					}
				}
				Next *string `json:"next_cursor"`
			}
			if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 || len(page.Subscribers) > limit {
				t.Fatalf("%d %s: %v", a.status, a.body, err)
			}
			for _, sub := range page.Subscribers {
				if sub.Lag.Offsets != slices.Index(ids, sub.ID) || sub.Lag.Partitions != nil {
					t.Errorf("%s: lag %+v; want %d, and no partitions in a list", sub.ID, sub.Lag, slices.Index(ids, sub.ID))
				}
				got = append(got, sub.ID)
			}
			if more = page.Next != nil; more {
				cursor = "&cursor=" + url.QueryEscape(*page.Next)
			}
		}
		want(t, fmt.Sprintf("pages of %d", limit), fmt.Sprint(got), fmt.Sprint(ids))
	}
	empty := startBeside(t, api.Config{}, &store.Memory{}, &publisher{}, oneShard())
	want(t, "nobody", empty.do("GET", "/subscribers?durable=true", "").body, `{"subscribers":[],"next_cursor":null}`+"\n")
}

// Each subscriber's lag is that behind its own shard.
func TestLagByShard(t *testing.T) {
	const shards = 4
	l := &lanes{topic: lane.Topic{ID: topicID, Partitions: 1, Shards: shards}}
	for i := range shards {
		l.next = append(l.next, []int64{int64(i+1) * 1000})
	}
	s := startBeside(t, api.Config{}, saved(t, ack("ada", 0), ack("bob", 0), ack("cyd", 0)), &publisher{}, l)
	list := s.do("GET", "/subscribers?durable=true", "").body
	for _, id := range []string{"ada", "bob", "cyd"} {
		offsets := (int(lane.ShardOf(id, shards)) + 1) * 1000
		one := s.do("GET", "/subscribers/"+id+"/ack", "").body
		if !strings.Contains(one, fmt.Sprintf(`"lag":{"offsets":%d,"partitions":{"0":%d}}`, offsets, offsets)) {
			t.Errorf("%s, of shard %d: %s", id, lane.ShardOf(id, shards), one)
		}
		if !strings.Contains(list, fmt.Sprintf(`"lag":{"offsets":%d}`, offsets)) {
			t.Errorf("list lacks a lag of %d: %s", offsets, list)
		}
	}
}

func TestBadSubscriberRequests(t *testing.T) {
	s := startBeside(t, api.Config{}, saved(t, ack("ada", 1)), &publisher{}, oneShard())
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/subscribers", 400, `{"field":"?durable","detail":"required: only durable subscribers can be listed, with durable=true"}`},
		{"GET", "/subscribers?durable=false", 400, `{"field":"?durable","detail":"\"false\": only durable subscribers can be listed, with durable=true"}`},
		{"GET", "/subscribers?durable=true&durable=true", 400, `{"field":"?durable","detail":"given twice"}`},
		{"GET", "/subscribers?durable=true&limit=0", 400, `{"field":"?limit","detail":"\"0\": want a number from 1 to 1000"}`},
		{"GET", "/subscribers?durable=true&limit=1001", 400, `{"field":"?limit"`},
		{"GET", "/subscribers?durable=true&cursor=", 400, `{"field":"?cursor","detail":"\"\": want the next_cursor of the page before"}`},
		{"GET", "/subscribers?durable=true&cursor=%00", 400, `{"field":"?cursor"`},
		{"GET", "/subscribers?durable=true&subscriber_id=ada", 400, `{"field":"?subscriber_id","detail":"unknown; allowed are durable, limit, cursor"}`},
		{"GET", "/subscribers/ada/ack?full=1", 400, `{"field":"?full","detail":"unknown; none are allowed here"}`},
		{"DELETE", "/subscribers/ada/ack?dry_run=true", 400, `{"field":"?dry_run"`},
		{"GET", "/subscribers/a%20b/ack", 400, `"urn:eventstream:problem:bad-subscriber"`},
		{"GET", "/subscribers/%ff/ack", 400, "not valid UTF-8"},
		{"DELETE", "/subscribers/" + strings.Repeat("x", 129) + "/ack", 400, "at most 128 are allowed"},
		{"PUT", "/subscribers/ada/ack", 405, "allowed are "},
		{"POST", "/subscribers", 405, "allowed are "},
		{"GET", "/subscribers/ada", 404, "no-such-route"},
	} {
		a := s.do(tt.method, tt.path, "")
		if a.status != tt.status || !strings.Contains(a.body, tt.want) || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s; want %d with %s", tt.method, tt.path, a.status, a.body, tt.status, tt.want)
		}
	}
	want(t, "after all that", s.do("GET", "/subscribers/ada/ack", "").status, 200)
}

// TestAcksInPostgres: the same over the real store, and without it.
func TestAcksInPostgres(t *testing.T) {
	db, err := store.NewPostgres(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	s := startBeside(t, api.Config{}, db, &publisher{}, oneShard())
	for _, request := range []string{"GET /subscribers?durable=true", "GET /subscribers/ada/ack", "DELETE /subscribers/ada/ack"} {
		method, path, _ := strings.Cut(request, " ")
		wantUnavailable(t, request+" before Migrate", s.do(method, path, ""))
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.SaveAcks(t.Context(), []event.Ack{ack("ada", 90, 50)}); err != nil {
		t.Fatal(err)
	}
	a := s.do("GET", "/subscribers/ada/ack", "")
	if c := ack("ada", 90, 50).Cursor; !strings.Contains(a.body, `"acked_at":"2026-01-02T03:04:05.000006Z"`) || !strings.Contains(a.body, c.String()) {
		t.Errorf("GET: %d %s", a.status, a.body)
	}
	want(t, "DELETE", s.do("DELETE", "/subscribers/ada/ack", "").status, 204)
	want(t, "GET after DELETE", s.do("GET", "/subscribers/ada/ack", "").status, 404)
}

func TestDurableMetrics(t *testing.T) {
	l, old := oneShard(), ack("bob", 70, 50)
	old.At = time.Now().Add(-time.Hour)
	young := ack("ada", 90, 20)
	young.At = time.Now()
	db := saved(t, young, old)
	s := startBeside(t, api.Config{CountEvery: time.Millisecond}, db, &publisher{}, l)
	metrics := func(want map[string]string) {
		t.Helper()
		testenv.Eventually(t, 10*time.Second, func() error {
			got := s.do("GET", "/metrics", "").body
			for name, value := range want {
				line := "\n" + name + " " + value
				if has := strings.Contains(got, line); has == (value == "") {
					return fmt.Errorf("metrics %q: %t", line, has)
				}
			}
			return nil
		})
	}
	metrics(map[string]string{"durable_subscribers": "2\n", "durable_lag_max_offsets": "40\n", "durable_ack_age_max_seconds": "360"})
	l.set(func(l *lanes) { l.topicErr = errors.New("down") })
	metrics(map[string]string{"durable_subscribers": "2\n", "durable_lag_max_offsets": ""})
	l.set(func(l *lanes) { l.topicErr, l.next[0][0] = nil, 1000 })
	metrics(map[string]string{"durable_lag_max_offsets": "940\n"})
	for _, id := range []string{"ada", "bob"} {
		if err := db.ForgetAck(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	metrics(map[string]string{"durable_subscribers": "0\n", "durable_lag_max_offsets": "0\n", "durable_ack_age_max_seconds": "0\n"})
}

// What can't be counted is not told.
func TestDurableMetricsWithoutStore(t *testing.T) {
	db := &uncountable{}
	s := startBeside(t, api.Config{CountEvery: time.Millisecond}, db, &publisher{}, oneShard())
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := s.do("GET", "/metrics", "").body; !strings.Contains(got, "durable_subscribers 0\n") {
			return errors.New("not counted yet")
		}
		return nil
	})
	db.broken.Store(true)
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := s.do("GET", "/metrics", "").body; strings.Contains(got, "durable_") {
			return errors.New("an old count is still told")
		}
		return nil
	})
	want(t, "readiness", s.do("GET", "/readyz", "").status, 200)
}

// All rows are read only when somebody collects metrics.
func TestDurablesAreCountedWhenAskedFor(t *testing.T) {
	db := &uncountable{}
	s := startBeside(t, api.Config{CountEvery: time.Millisecond}, db, &publisher{}, oneShard())
	counted := func(times int32) {
		t.Helper()
		testenv.Eventually(t, 30*time.Second, func() error {
			if n := db.counts.Load(); n < times {
				return fmt.Errorf("counted %d times, want %d", n, times)
			}
			return nil
		})
	}
	counted(1)
	for range 200 {
		s.do("GET", "/livez", "")
	}
	want(t, "counts while nobody collects", db.counts.Load(), int32(1))
	for n := range int32(3) {
		s.do("GET", "/metrics", "")
		counted(n + 2)
	}
}

type uncountable struct {
	store.Memory
	broken atomic.Bool
	counts atomic.Int32
}

func (u *uncountable) AckTotals(ctx context.Context, topic event.TopicID, next []int64) (event.AckTotals, error) {
	u.counts.Add(1)
	if u.broken.Load() {
		return event.AckTotals{}, errors.New("can't count")
	}
	return u.Memory.AckTotals(ctx, topic, next)
}

// A time that can't be written, which earlier versions took from a client, does not
// take everybody's list away.
func TestAckFromTheFuture(t *testing.T) {
	kept := &store.Memory{}
	forged := event.Ack{Subscriber: "ada", At: time.Unix(1<<40, 0), Cursor: event.Cursor{Issued: time.Unix(1<<40, 0), Next: []int64{1}}}
	if err := kept.SaveAcks(t.Context(), []event.Ack{forged, {Subscriber: "bob", At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	s := startAll(t, api.Config{}, kept, &publisher{}, oneShard(), nil)
	for path, want := range map[string]string{"/subscribers?durable=true": `"bob"`, "/subscribers/ada/ack": `"ada"`} {
		if a := s.do("GET", path, ""); a.status != 200 || !strings.Contains(a.body, want) {
			t.Errorf("GET %s: %d %s", path, a.status, a.body)
		}
	}
}
