package topic

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// patience is how long a test waits for something that has to happen.
const patience = 20 * time.Second

func testLog(t *testing.T) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.stop)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// testWriter logs to a test until it has ended.
type testWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *testWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t == nil {
		return io.Discard.Write(b)
	}
	w.t.Logf("%s", b[:max(0, len(b)-1)])
	return len(b), nil
}

// embedded starts a broker with a topic.
func embedded(t *testing.T, partitions int32) (*Broker, Config) {
	t.Helper()
	b, err := StartBroker(EmbeddedConfig{Topic: "events", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, Config{Brokers: []string{b.Addr()}, Topic: "events", Partitions: partitions, SessionTimeout: 6 * time.Second}
}

// fill writes n records to a partition, with their offset as value if it was
// empty before.
func fill(t *testing.T, cfg Config, partition int32, from, n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	recs := make([]*kgo.Record, n)
	for i := range recs {
		recs[i] = &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, "%d", from+i)}
	}
	if err := cl.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// start runs a consumer until the test ends or the returned function is called.
func start(t *testing.T, cfg Config, work func(context.Context, *Partition) error) (*Consumer, func()) {
	t.Helper()
	c, err := NewConsumer(cfg, nil, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx, work); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return c, stop
}
