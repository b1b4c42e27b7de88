package topic

import (
	"context"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/testenv"
)

// A compacted topic is told of once. What is left of transactions in it is no hole: nothing
// was compacted here.
func TestCompactedTopic(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		policy := "compact,delete"
		if _, err := admin(t, cfg).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}}, cfg.Topic); err != nil {
			t.Fatal(err)
		}
		x, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.TransactionalID(cfg.Topic))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			err := x.BeginTransaction()
			if err == nil {
				err = x.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte("v")}).FirstErr()
			}
			if err == nil {
				err = x.EndTransaction(t.Context(), commit)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var log lines
		c, err := NewConsumer(cfg, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		run(t, c, func(ctx context.Context, _ *Partition) error { <-ctx.Done(); return nil })
		testenv.Eventually(t, patience, func() error {
			keeps, err := c.Keeps(t.Context())
			if err == nil && keeps != 0 {
				t.Fatalf("Keeps: got %v, want 0: any record may be removed", keeps)
			}
			return err
		})
		if _, err := c.Keeps(t.Context()); err != nil {
			t.Error(err)
		}
		if got := log.with("the topic is compacted"); len(got) != 1 {
			t.Errorf("logged %q, want one line", got)
		}
		for from := int64(0); from < 4; {
			past, err := c.ReadAt(t.Context(), 0, from)
			if err != nil {
				t.Fatal(err)
			}
			if past.Holes != (Holes{}) {
				t.Errorf("from %d to %d: holes %+v, want none", from, past.Next, past.Holes)
			}
			for _, r := range past.Records {
				if r.Offset != 2 {
					t.Errorf("got offset %d, want 2 alone", r.Offset)
				}
			}
			from = past.Next
		}
	})
}
