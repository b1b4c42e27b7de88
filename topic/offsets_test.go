package topic

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// afterAnswer is called when an answer about offsets is there.
type afterAnswer func()

func (f afterAnswer) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == int16(kmsg.ListOffsets) && err == nil {
		f()
	}
}

func TestOffsetsAtWhileTheFirstRecordComes(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		record := func() { write(t, cfg, &kgo.Record{Value: []byte("x")}) }
		cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.WithHooks(afterAnswer(sync.OnceFunc(record))))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		got, err := offsetOf(t.Context(), cl, cfg.Topic, 0, time.Now().Add(-time.Hour).UnixMilli())
		if err != nil || got != 0 {
			t.Errorf("the first offset of the last hour: %d, %v, want 0: the record is of that time", got, err)
		}
	})
}
