package topic

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/testenv"
)

// idleConsumer runs a consumer whose workers read nothing.
func idleConsumer(t *testing.T, cfg Config) *Consumer {
	t.Helper()
	c, _ := start(t, cfg, func(ctx context.Context, _ *Partition) error {
		<-ctx.Done()
		return nil
	})
	testenv.Eventually(t, patience, func() error {
		if _, err := c.Ends(t.Context()); err != nil {
			return err
		}
		return nil
	})
	return c
}

// readPast reads a partition from an offset to another one.
func readPast(t *testing.T, c *Consumer, partition int32, from, to int64) (offsets []int64, first int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for from < to {
		past, err := c.ReadAt(ctx, partition, from)
		if err != nil {
			t.Fatal(err)
		}
		if past.Next <= from {
			t.Fatalf("read from %d to %d", from, past.Next)
		}
		for _, r := range past.Records {
			if r.Offset < from || r.Offset >= past.Next {
				t.Errorf("read from %d to %d, and got offset %d", from, past.Next, r.Offset)
			}
			offsets = append(offsets, r.Offset)
			if string(r.Value) != strconv.FormatInt(r.Offset, 10) {
				t.Errorf("offset %d: got %q", r.Offset, r.Value)
			}
		}
		from, first = past.Next, past.First
	}
	return offsets, first
}

func checkOffsets(t *testing.T, got []int64, from, to int64) {
	t.Helper()
	if int64(len(got)) != to-from {
		t.Errorf("got %d offsets, want those from %d to %d", len(got), from, to)
		return
	}
	for i, o := range got {
		if o != from+int64(i) {
			t.Fatalf("got offset %d, want %d", o, from+int64(i))
		}
	}
}

func TestReadAt(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		const n = 3000
		fill(t, cfg, 0, 0, n)
		fill(t, cfg, 1, 0, n)
		c := idleConsumer(t, cfg)
		for _, from := range []int64{0, 1, 499, 500, 1234, n - 1} {
			got, first := readPast(t, c, 1, from, n)
			checkOffsets(t, got, from, n)
			if first != 0 {
				t.Errorf("First: got %d, want 0", first)
			}
		}
		got, _ := readPast(t, c, 0, 7, n) // back again, elsewhere
		checkOffsets(t, got, 7, n)
	})
}

func TestReadAtTrimmed(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 1000)
		c := idleConsumer(t, cfg)
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: cfg.Topic, Partition: 0, At: 700})
		if _, err := admin(t, cfg).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		got, first := readPast(t, c, 0, 10, 1000)
		checkOffsets(t, got, 700, 1000)
		if first != 700 {
			t.Errorf("First: got %d, want 700", first)
		}
		starts, err := c.Starts(t.Context())
		if err != nil || starts[0].At != 700 {
			t.Errorf("Starts: got %v, %v, want 700", starts, err)
		}
	})
}

// Marks of transactions have offsets, and are no records: a partition that ends
// with one is read to its end.
func TestReadAtTransactions(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.TransactionalID(cfg.Topic))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord(strconv.Itoa(2*i))).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := cl.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			uncommitted bool
			want        int
		}{{true, 4}, {false, 2}} {
			cfg.Uncommitted = tt.uncommitted
			c := idleConsumer(t, cfg)
			testenv.Eventually(t, patience, func() error {
				if ends, err := c.Ends(t.Context()); err != nil || ends[0].At != 8 {
					return fmt.Errorf("ends %v, %v: want 8", ends, err)
				}
				return nil
			})
			if got, _ := readPast(t, c, 0, 0, 8); len(got) != tt.want {
				t.Errorf("uncommitted %t: got offsets %v, want those of %d records", tt.uncommitted, got, tt.want)
			}
		}
	})
}

func TestReadAtCorrupt(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1)
	fill(t, cfg, 0, 0, 10)
	writeCorrupt(t, cfg, 7)
	fill(t, cfg, 0, 17, 10)
	strict := idleConsumer(t, cfg)
	got, _ := readPast(t, strict, 0, 0, 10)
	checkOffsets(t, got, 0, 10)
	if _, err := strict.ReadAt(t.Context(), 0, 10); err == nil {
		t.Error("a corrupt batch is read without an error")
	}
	cfg.SkipCorrupt = true
	if got, _ := readPast(t, idleConsumer(t, cfg), 0, 0, 27); len(got) != 20 || got[10] != 17 {
		t.Errorf("got offsets %v, want all but 10 to 16", got)
	}
}

// Beyond the end there is nothing to read, and nothing is made up.
func TestReadAtEnd(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 10)
		c := idleConsumer(t, cfg)
		for _, from := range []int64{10, 25} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if past, err := c.ReadAt(ctx, 0, from); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("at %d: got %+v, %v, want that its time ended", from, past, err)
			}
			cancel()
		}
	})
}

func TestReadAtTopicGone(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 10)
		c, err := NewConsumer(cfg, nil, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			defer close(ended)
			c.Run(ctx, func(ctx context.Context, _ *Partition) error { <-ctx.Done(); return nil })
		}()
		defer func() { cancel(); <-ended }()
		testenv.Eventually(t, patience, func() error {
			_, err := c.ReadAt(t.Context(), 0, 0)
			return err
		})
		if _, err := admin(t, cfg).DeleteTopic(t.Context(), cfg.Topic); err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(t.Context(), cfg, testenv.Log(t)); err != nil {
			t.Fatal(err)
		}
		fill(t, cfg, 0, 0, 10)
		testenv.Eventually(t, patience, func() error {
			if past, err := c.ReadAt(t.Context(), 0, 0); !errors.Is(err, ErrTopicGone) {
				return fmt.Errorf("got %+v, %v, want %v", past, err, ErrTopicGone)
			}
			return nil
		})
	})
}

// When nobody reads, no client is kept.
func TestReadAtIdle(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1)
	fill(t, cfg, 0, 0, 10)
	c := idleConsumer(t, cfg)
	c.past.idle = 10 * time.Millisecond
	for range 2 {
		got, _ := readPast(t, c, 0, 0, 10)
		checkOffsets(t, got, 0, 10)
		testenv.Eventually(t, patience, func() error {
			c.past.mu.Lock()
			defer c.past.mu.Unlock()
			if c.past.cl != nil {
				return errors.New("the client is kept")
			}
			return nil
		})
	}
}

func TestOffsetsAt(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		begin := time.Now().Add(-time.Hour)
		for i := range 10 {
			write(t, cfg, &kgo.Record{Partition: 1, Timestamp: begin.Add(time.Duration(i) * time.Second), Value: []byte("x")})
		}
		c := idleConsumer(t, cfg)
		for _, tt := range []struct {
			after time.Duration
			want  int64
		}{{-time.Minute, 0}, {2 * time.Second, 2}, {2500 * time.Millisecond, 3}, {time.Hour, 10}} {
			got, err := c.OffsetsAt(t.Context(), begin.Add(tt.after))
			if err != nil || len(got) != 2 || got[1].At != tt.want || got[0].At != 0 {
				t.Errorf("after %v: got %v, %v, want 0 and %d", tt.after, got, err, tt.want)
			}
		}
	})
}

func TestKeeps(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		c := idleConsumer(t, cfg)
		keeps := func(want time.Duration, configs ...kadm.AlterConfig) {
			t.Helper()
			if _, err := admin(t, cfg).AlterTopicConfigs(t.Context(), configs, cfg.Topic); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, patience, func() error {
				if got, err := c.Keeps(t.Context()); err != nil || got != want {
					return fmt.Errorf("got %v, %v, want %v", got, err, want)
				}
				return nil
			})
		}
		set := func(key, value string) kadm.AlterConfig {
			return kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
		}
		keeps(2*time.Hour, set("retention.ms", "7200000"), set("retention.bytes", "-1"))
		keeps(math.MaxInt64, set("retention.ms", "-1"))
		keeps(0, set("retention.bytes", "1000000"))
	})
}
