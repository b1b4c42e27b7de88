package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
)

// store is what Redis and Memory have in common.
type store interface {
	Close()
	Ping(context.Context) error
	CheckConfig(context.Context) (Inspection, error)
	Epoch(context.Context) (string, bool, error)
	SetTopic(context.Context, Topic) error
	Topic(context.Context) (Topic, error)
	Claim(ctx context.Context, sh Shard, p int32, id event.TopicID, start, end int64) (int64, error)
	Append(context.Context, Append) (int64, error)
	Retire(ctx context.Context, sh Shard, id event.TopicID, n int32, keep time.Duration) error
	Lose(ctx context.Context, sh Shard, p int32, id event.TopicID, l Loss) error
	Skip(ctx context.Context, sh Shard, p int32, id event.TopicID, s Skip) error
	ForgetSkips(ctx context.Context, sh Shard, p int32, id event.TopicID, offset int64) error
	Skips(ctx context.Context, sh Shard, p int32) (Skips, error)
	Positions(ctx context.Context, sh Shard, n int32) ([]Position, error)
	Require(ctx context.Context, sh Shard, n int32, synced ControlID) ([]Position, error)
	Tail(ctx context.Context, sh Shard, from []int64, sink func(Batch) error) error
	Range(ctx context.Context, sh Shard, p int32, from, to int64, sink func(Entry) error) (int64, error)
	Announce(context.Context, Announcement) (ControlID, error)
	Heartbeat(context.Context, event.Gateway, time.Duration) (Beat, error)
	Occupant(context.Context, event.Address) (string, bool, error)
	Gateways(context.Context) ([]event.Gateway, error)
	Seats(context.Context, event.Gateway, func([]Seated) error) error
	PublishFilter(context.Context, filter.Change) (ControlID, error)
	PublishBulk(context.Context) (ControlID, error)
	ControlEnd(context.Context) (ControlID, error)
	ControlSince(context.Context, ControlID) ([]Change, ControlID, error)
	Tell(context.Context, Order) error
	Ask(ctx context.Context, o Order, wait time.Duration) ([]Answer, []event.Gateway, error)
	FollowOrders(ctx context.Context, g event.Gateway, do func(Order) Answer) error
}

// subject is a store under test, with what only a test does to it.
type subject struct {
	store
	wipe func()               // loses everything
	save func() (roll func()) // roll loses what was written to partition 0 since save
}

// suite is the promises that both stores keep, one function each.
var suite = []struct {
	name string
	test func(*testing.T, subject)
}{
	{"epoch", testEpoch},
	{"topic", testTopic},
	{"claim", testClaim},
	{"append", testAppend},
	{"append refuses mistakes", testAppendMistakes},
	{"require", testRequire},
	{"append copies", testAppendCopies},
	{"append after", testAppendAfter},
	{"wiped lane", testWipedLane},
	{"zombie writer", testZombieWriter},
	{"shards", testShards},
	{"other number of shards", testOtherShards},
	{"beat", testBeat},
	{"retire", testRetire},
	{"claim without a start", testClaimNoStart},
	{"lose", testLose},
	{"skip", testSkip},
	{"range", testRange},
	{"range of many pages", testRangePages},
	{"range over trimmed", testRangeTrimmed},
	{"range sink fails", testRangeSink},
	{"rolled back lane", testRolledBack},
	{"tail", testTail},
	{"tail of no partitions", testTailNothing},
	{"tail ends", testTailEnds},
	{"tail of a wiped store", testTailWiped},
	{"tail positions", testTailPositions},
	{"filter changes", testPublishFilter},
	{"bulk changes", testPublishBulk},
	{"control pages", testControlPages},
	{"control order", testControlOrder},
	{"control wiped", testControlWiped},
	{"presence", testPresence},
	{"presence expires", testPresenceExpires},
	{"presence forgotten", testPresenceForgotten},
	{"presence replaced", testPresenceReplaced},
	{"many seats", testManySeats},
	{"presence bootstrap", testBootstrap},
	{"orders", testOrders},
	{"orders unanswered", testOrdersUnanswered},
	{"orders end", testOrdersEnd},
}

func TestMemory(t *testing.T) {
	for _, tt := range suite {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory()
			m.every = 20 * time.Millisecond
			tt.test(t, subject{m, m.Wipe, m.save})
		})
	}
}

func (m *Memory) save() func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.lanes[memoryKey{}]
	old.entries = slices.Clone(old.entries)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lanes[memoryKey{}] = &old
	}
}

func TestRedis(t *testing.T) { testRedis(t, testenv.Redis(t).Addr) }

func TestRedisCluster(t *testing.T) { testRedis(t, testenv.RedisCluster(t).Addr) }

func TestRedisSentinel(t *testing.T) { testRedis(t, testenv.RedisPair(t).Sentinel()) }

func testRedis(t *testing.T, addr string) {
	for _, tt := range suite {
		t.Run(tt.name, func(t *testing.T) {
			r := newRedis(t, RedisConfig{Addr: addr, ReadCount: 3, Block: 20 * time.Millisecond})
			wipe := func() { flush(t, r) }
			wipe()
			tt.test(t, subject{r, wipe, func() func() { return saveLane(t, r) }})
		})
	}
}

// flush empties all nodes.
func flush(t testing.TB, r *Redis) {
	t.Helper()
	for addr, node := range must[rueidis.Client](t)(r.open(t.Context())).Nodes() {
		if err := node.Do(t.Context(), node.B().Flushall().Build()).Error(); err != nil {
			t.Fatalf("FLUSHALL on %s: %v", addr, err)
		}
	}
}

func newRedis(t testing.TB, cfg RedisConfig) *Redis {
	t.Helper()
	r, err := NewRedis(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func do(t testing.TB, r *Redis, command ...string) {
	t.Helper()
	c := must[rueidis.Client](t)(r.open(context.Background()))
	if err := c.Do(context.Background(), c.B().Arbitrary(command...).Build()).Error(); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

func saveLane(t testing.TB, r *Redis) func() {
	for _, key := range r.laneKeys(Shard{}, 0) {
		do(t, r, "COPY", key, key+".saved", "REPLACE")
	}
	return func() {
		for _, key := range r.laneKeys(Shard{}, 0) {
			do(t, r, "DEL", key)
			do(t, r, "COPY", key+".saved", key)
		}
	}
}

// must fails the test if err is set, and returns v.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

var topicA, topicB = event.TopicID{0xa}, event.TopicID{0xb}

// put appends one entry to partition p, with the blob "<last>".
func put(t testing.TB, s store, p int32, expect, last, next int64) {
	t.Helper()
	a := Append{Partition: p, Topic: topicA, Expect: expect, Next: next, Last: last, Entry: fmt.Append(nil, last)}
	if got := must[int64](t)(s.Append(t.Context(), a)); got != next {
		t.Fatalf("Append from %d to %d = %d", expect, next, got)
	}
}

// lasts returns the Last of each entry in the range, after a look at the blobs.
func lasts(t testing.TB, s store, p int32, from, to int64) (out []int64, first int64, err error) {
	t.Helper()
	first, err = s.Range(t.Context(), Shard{}, p, from, to, func(e Entry) error {
		check(t, "partition", e.Partition, p)
		check(t, "blob", string(e.Blob), fmt.Sprint(e.Last))
		out = append(out, e.Last)
		return nil
	})
	return out, first, err
}

// follower is a Tail in the background.
type follower struct {
	t       testing.TB
	batches chan Batch
	done    chan error
	stop    context.CancelFunc

	entries []Entry
	pos     []Position // latest, by partition
}

var errTimeout = errors.New("nothing came")

func follow(t testing.TB, s store, from []int64) *follower {
	return followShard(t, s, Shard{}, from)
}

func followShard(t testing.TB, s store, sh Shard, from []int64) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, batches: make(chan Batch), done: make(chan error, 1), stop: cancel}
	for p := range from {
		f.pos = append(f.pos, Position{Partition: int32(p), Next: -2})
	}
	go func() {
		f.done <- s.Tail(ctx, sh, from, func(b Batch) error {
			select {
			case f.batches <- b:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	t.Cleanup(cancel)
	return f
}

// until takes batches until ok holds.
func (f *follower) until(what string, ok func() bool) {
	f.t.Helper()
	timeout := time.After(20 * time.Second)
	for !ok() {
		select {
		case b := <-f.batches:
			f.entries = append(f.entries, b.Entries...)
			for _, pos := range b.Positions {
				f.pos[pos.Partition] = pos
			}
		case err := <-f.done:
			f.t.Fatalf("Tail ended with %v before: %s", err, what)
		case <-timeout:
			f.t.Fatalf("timeout before: %s", what)
		}
	}
}

// end stops the Tail and returns what it returned.
func (f *follower) end() error {
	f.stop()
	select {
	case err := <-f.done:
		return err
	case <-time.After(20 * time.Second):
		return errTimeout
	}
}

func testEpoch(t *testing.T, s subject) {
	ctx := t.Context()
	one, created, err := s.Epoch(ctx)
	if err != nil || !created || one == "" {
		t.Fatalf("Epoch = %q, %t, %v; want one that was created", one, created, err)
	}
	again, created, err := s.Epoch(ctx)
	if err != nil || created || again != one {
		t.Fatalf("Epoch = %q, %t, %v; want %q", again, created, err, one)
	}
	s.wipe()
	check(t, "Heartbeat of a wiped store", must[Beat](t)(s.Heartbeat(ctx, 1, time.Minute)), Beat{})
	two, created, err := s.Epoch(ctx)
	if err != nil || !created || two == one {
		t.Fatalf("Epoch after wipe = %q, %t, %v; want a new one", two, created, err)
	}
	in, err := s.CheckConfig(ctx)
	if err := cmp.Or(s.Ping(ctx), err, errors.Join(in.Troubles...)); err != nil {
		t.Error(err)
	}
}

func testTopic(t *testing.T, s subject) {
	ctx := t.Context()
	if _, err := s.Topic(ctx); !errors.Is(err, ErrNoTopic) {
		t.Fatalf("Topic = %v, want ErrNoTopic", err)
	}
	for _, want := range []Topic{{"a", topicA, 4, 1}, {"b", topicB, 8, 1}, {"b", topicB, event.MaxPartitions, MaxShards}, {"b", topicB, 8, 1}} {
		if err := s.SetTopic(ctx, want); err != nil {
			t.Fatal(err)
		}
		check(t, "Topic", must[Topic](t)(s.Topic(ctx)), want)
	}
	if err := s.SetTopic(ctx, Topic{ID: topicA, Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	check(t, "Topic", must[Topic](t)(s.Topic(ctx)), Topic{"", topicA, 4, 1})
	for _, n := range []int32{12, 5} { // whoever knows of fewer takes none back
		if err := s.SetTopic(ctx, Topic{"a", topicA, n, 1}); err != nil {
			t.Fatal(err)
		}
	}
	check(t, "Topic", must[Topic](t)(s.Topic(ctx)), Topic{"a", topicA, 12, 1})
}
