package topic

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"eventstream/internal/testenv"
)

// patience is how long a test waits for something that has to happen.
const patience = time.Minute

// TestMain lets more tests run at once than there are CPUs: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "12")
	goleak.VerifyTestMain(m)
}

// onBoth runs a test against the embedded broker and against Kafka itself, each
// with a fresh topic.
func onBoth(t *testing.T, partitions int32, test func(t *testing.T, cfg Config)) {
	t.Helper()
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		_, cfg := embedded(t, partitions)
		test(t, cfg)
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		test(t, kafka(t, partitions))
	})
}

// embedded starts a broker with a topic.
func embedded(t *testing.T, partitions int32) (*Broker, Config) {
	t.Helper()
	b, err := StartBroker(EmbeddedConfig{Topic: "events", Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, testConfig([]string{b.Addr()}, "events", partitions)
}

// kafka makes a topic on the shared Kafka.
func kafka(t *testing.T, partitions int32) Config {
	t.Helper()
	cfg := testConfig(testenv.Kafka(t), testenv.Topic(t), partitions)
	if _, err := Ensure(t.Context(), cfg, testenv.Log(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := admin(t, cfg).DeleteTopic(ctx, cfg.DLQ()); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

func testConfig(brokers []string, topic string, partitions int32) Config {
	return Config{
		Brokers:        brokers,
		Topic:          topic,
		Group:          topic,
		Partitions:     partitions,
		SessionTimeout: 6 * time.Second, // the least that brokers allow
	}
}

func admin(t *testing.T, cfg Config) *kadm.Client {
	t.Helper()
	adm, err := kadm.NewOptClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	return adm
}

// fill writes n records to a partition, with from, from+1, ... as values.
func fill(t *testing.T, cfg Config, partition int32, from, n int) {
	t.Helper()
	recs := make([]*kgo.Record, n)
	for i := range recs {
		recs[i] = &kgo.Record{Partition: partition, Value: fmt.Appendf(nil, "%d", from+i)}
	}
	write(t, cfg, recs...)
}

// write writes records to the partitions that they name.
func write(t *testing.T, cfg Config, recs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	// Not all in one batch: a fetch has to decode a whole one.
	for batch := range slices.Chunk(recs, 500) {
		if err := cl.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// within receives from ch, or fails the test.
func within[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s after %v", what, patience)
		panic("unreachable")
	}
}

// start runs a consumer until the test ends or the returned function is called.
func start(t *testing.T, cfg Config, work func(context.Context, *Partition) error) (*Consumer, func()) {
	t.Helper()
	c, err := NewConsumer(cfg, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return c, run(t, c, work)
}

// run is start for a consumer that is there.
func run(t *testing.T, c *Consumer, work func(context.Context, *Partition) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx, work); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return stop
}

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}
