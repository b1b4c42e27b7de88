package cmd_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/store"
)

// TestAnothersDatabase gives an API and a gateway the Redis of one pipeline and the
// PostgreSQL of another, whose filter services say so.
func TestAnothersDatabase(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	var dsn string
	for _, v := range p.env {
		if after, ok := strings.CutPrefix(v, "EVENTSTREAM_POSTGRES="); ok {
			dsn = after
		}
	}
	s, err := store.NewPostgres(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o := (filter.Owner{}); ctx.Err() == nil; time.Sleep(time.Second) {
			o, _ = s.SetOwner(ctx, event.TopicID{1}, "theirs", o)
		}
	}()
	defer func() { cancel(); <-done }()
	lanes, err := lane.NewRedis(lane.RedisConfig{Addr: p.redis.Addr}, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lanes.Close()
	if err := lanes.SetTopic(t.Context(), lane.Topic{Name: "ours", ID: event.TopicID{2}, Partitions: 1, Shards: 1}); err != nil {
		t.Fatal(err)
	}
	for _, pr := range []*process{p.start("api", "--listen", testenv.Addr(t)), p.start("gateway", "--listen", testenv.Addr(t))} {
		if code, said := pr.wait(2*time.Minute), pr.out.tail(5); code != 1 || !strings.Contains(said, "another pipeline's") || !strings.Contains(said, "filter services of topic theirs") {
			t.Errorf("%s exited with %d, and printed:\n%s", pr.name, code, said)
		}
	}
}
