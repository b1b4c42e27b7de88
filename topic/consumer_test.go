package topic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/testenv"
)

func TestReadsFromWhereItSeeks(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, cfg Config) {
		const n = 1000
		for p := range int32(3) {
			fill(t, cfg, p, 0, n)
		}
		type result struct {
			partition int32
			offsets   []int64
			hwm       int64
		}
		results := make(chan result)
		c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.SeekTo(int64(p.ID) * 100)
			res := result{partition: p.ID}
			for next := int64(0); next < n; {
				recs, err := p.Next(ctx, time.Second)
				if err != nil {
					return err
				}
				for _, r := range recs {
					res.offsets = append(res.offsets, r.Offset)
					next = r.Offset + 1
				}
			}
			res.hwm = p.End()
			results <- res
			<-ctx.Done()
			return nil
		})
		for range 3 {
			res := within(t, results, "partition")
			if res.hwm != n {
				t.Errorf("partition %d: HighWatermark: got %d, want %d", res.partition, res.hwm, n)
			}
			for i, got := range res.offsets {
				if want := int64(res.partition)*100 + int64(i); got != want {
					t.Fatalf("partition %d, record %d: got offset %d, want %d", res.partition, i, got, want)
				}
			}
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if n, member := c.Assigned(); n != 3 || !member {
			t.Errorf("Assigned: got %d, %t, want 3, true", n, member)
		}
		ends, err := c.Ends(t.Context())
		if err != nil || len(ends) != 3 || ends[1].At != n {
			t.Errorf("Ends: got %v, %v, want %d for each of 3", ends, err, n)
		}
	})
}

// After SeekTo(n) the next record is n, whatever was queued, fetched or in
// flight, and the ones after it follow without a gap.
func TestNoRecordFromBeforeASeek(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		const n, seeks = 10_000, 40
		cfg.QueueBytes = 100_000 // some partitions are paused when they seek
		for p := range int32(2) {
			fill(t, cfg, p, 0, n)
		}
		results := make(chan error)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			results <- seekAround(ctx, p, n, seeks)
			<-ctx.Done()
			return nil
		})
		for range 2 {
			if err := within(t, results, "partition"); err != nil {
				t.Error(err)
			}
		}
	})
}

func seekAround(ctx context.Context, p *Partition, n int64, seeks int) error {
	rng := rand.New(rand.NewPCG(uint64(p.ID), 1))
	for i := range seeks {
		want := rng.Int64N(n)
		p.SeekTo(want)
		if rng.IntN(3) == 0 {
			want = rng.Int64N(n)
			p.SeekTo(want) // before the first is applied
		}
		for range rng.IntN(12) {
			recs, err := p.Next(ctx, 10*time.Second)
			if err != nil {
				return err
			}
			if len(recs) == 0 && want < n {
				return fmt.Errorf("partition %d, seek %d: no record, want offset %d", p.ID, i, want)
			}
			for _, r := range recs {
				if r.Offset != want || string(r.Value) != fmt.Sprint(want) {
					return fmt.Errorf("partition %d, seek %d: got offset %d, %q, want %d", p.ID, i, r.Offset, r.Value, want)
				}
				want++
			}
			if want == n {
				break
			}
		}
	}
	return nil
}

func TestNothingBeforeTheFirstSeek(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1)
	fill(t, cfg, 0, 0, 10)
	type result struct {
		recs []*kgo.Record
		err  error
	}
	results := make(chan result)
	runs := 0
	start(t, cfg, func(ctx context.Context, p *Partition) error {
		runs++
		recs, err := p.Next(ctx, 300*time.Millisecond)
		results <- result{recs, err}
		p.SeekTo(5)
		recs, err = p.Next(ctx, patience)
		results <- result{recs, err}
		if runs == 1 {
			return errors.New("on purpose")
		}
		<-ctx.Done()
		_, err = p.Next(ctx, time.Second)
		results <- result{nil, err}
		return nil
	})
	for range 2 { // a worker that is started again has to seek again
		if res := within(t, results, "result"); res.recs != nil || res.err != nil {
			t.Errorf("before SeekTo: got %d records, %v, want none", len(res.recs), res.err)
		}
		if res := within(t, results, "result"); res.err != nil || len(res.recs) == 0 || res.recs[0].Offset != 5 {
			t.Errorf("after SeekTo(5): got %v, %v", res.recs, res.err)
		}
	}
	go func() { // the end of the test ends ctx
		if res := <-results; !errors.Is(res.err, context.Canceled) {
			t.Errorf("Next after the end: got %v, want %v", res.err, context.Canceled)
		}
	}()
}

// A retry that comes due after the worker has ended must not fetch for nobody.
func TestNoFetchForAWorkerThatEnded(t *testing.T) {
	p := newPartition(0, 0, func() {})
	p.SeekTo(7)
	if at, seek, fetch, _ := p.plan(); at != 7 || !seek || !fetch {
		t.Errorf("after SeekTo(7): got %d, %t, %t, want 7, true, true", at, seek, fetch)
	}
	p.Hold()
	p.refetch(0)
	if _, seek, fetch, _ := p.plan(); seek || fetch {
		t.Errorf("after the worker ended: got %t, %t, want false, false", seek, fetch)
	}
}

func TestNextWaits(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1)
	idle, got := make(chan time.Duration, 1), make(chan int64, 1)
	start(t, cfg, func(ctx context.Context, p *Partition) error {
		p.SeekTo(0)
		began := time.Now()
		if recs, err := p.Next(ctx, 200*time.Millisecond); recs != nil || err != nil {
			t.Errorf("Next: got %v, %v, want nothing", recs, err)
		}
		idle <- time.Since(began)
		if recs, err := p.Next(ctx, patience); err == nil && len(recs) > 0 {
			got <- recs[0].Offset
		}
		<-ctx.Done()
		return nil
	})
	if d := within(t, idle, "idle"); d < 200*time.Millisecond {
		t.Errorf("Next returned nothing after %v, want it to wait 200ms", d)
	}
	fill(t, cfg, 0, 0, 1)
	if o := within(t, got, "record"); o != 0 {
		t.Errorf("got offset %d, want 0", o)
	}
}

func TestRange(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		base := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		var recs []*kgo.Record
		for i := range 10 {
			recs = append(recs, &kgo.Record{Partition: 1, Timestamp: base.Add(time.Duration(i) * time.Minute), Value: []byte("x")})
		}
		write(t, cfg, recs...)
		c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error { <-ctx.Done(); return nil })
		testenv.Eventually(t, patience, func() error { return c.Ping(t.Context()) })
		for _, tt := range []struct {
			partition int32
			at        time.Time
			want      Range
		}{
			{1, base.Add(-time.Hour), Range{0, 0, 10, 10}},
			{1, time.Unix(-1, 0), Range{0, 0, 10, 10}},
			{1, base, Range{0, 0, 10, 10}},
			{1, base.Add(time.Second), Range{0, 1, 10, 10}},
			{1, base.Add(9 * time.Minute), Range{0, 9, 10, 10}},
			{1, base.Add(10 * time.Minute), Range{0, 10, 10, 10}},
			{0, base, Range{0, 0, 0, 0}},
		} {
			got, err := c.Range(t.Context(), tt.partition, tt.at)
			if err != nil || got != tt.want {
				t.Errorf("Range(%d, base%+v): got %d, %v, want %d", tt.partition, tt.at.Sub(base), got, err, tt.want)
			}
		}
		if _, err := c.Range(t.Context(), 2, base); err == nil || errors.Is(err, ErrNoLeader) {
			t.Errorf("Range of a partition that does not exist: got %v", err)
		}
	})
}

// To find the offset of a time takes Kafka two questions: is there a record, and
// if not, where is the end? What is produced between them must not be skipped.
func TestProducedDuringRange(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1)
	plain := cfg
	cfg.Options = []kgo.Opt{kgo.WithHooks(&afterFirst{key: 2, do: func() { fill(t, plain, 0, 0, 3) }})} // ListOffsets
	c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error { <-ctx.Done(); return nil })
	testenv.Eventually(t, patience, func() error { return c.Ping(t.Context()) })
	if got, err := c.Range(t.Context(), 0, time.Now()); err != nil || got != (Range{0, 0, 0, 3}) {
		t.Errorf("got %v, %v, want 0 for all but Top: that is where it was when we asked first", got, err)
	}
	if got, err := c.Range(t.Context(), 0, time.Now().Add(time.Hour)); err != nil || got != (Range{0, 3, 3, 3}) {
		t.Errorf("got %v, %v, want what was produced meanwhile", got, err)
	}
}

// afterFirst does something when the first request of its kind is answered.
type afterFirst struct {
	key  int16
	do   func()
	once sync.Once
}

func (a *afterFirst) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, _ kgo.BrokerE2E) {
	if key == a.key {
		a.once.Do(a.do)
	}
}

// A record's time says nothing about whether Kafka has it: it may even have none.
func TestOldest(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		write(t, cfg,
			&kgo.Record{Partition: 1, Timestamp: time.UnixMilli(-1), Value: []byte("x")},
			&kgo.Record{Partition: 1, Value: []byte("y")})
		c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error { <-ctx.Done(); return nil })
		testenv.Eventually(t, patience, func() error { return c.Ping(t.Context()) })
		for p := range int32(2) {
			if got, err := c.Range(t.Context(), p, time.Now()); got.Oldest != 0 || err != nil {
				t.Errorf("oldest of %d: got %d, %v, want 0", p, got.Oldest, err)
			}
		}
	})
}

// What is done is committed, so that tools see the lag.
func TestShadowCommit(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 10)
		_, stop := start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.Done(int64(p.ID) + 5)
			<-ctx.Done()
			p.Done(int64(p.ID) + 7) // committed while leaving
			return nil
		})
		adm := admin(t, cfg)
		committed := func(want int64) error {
			offsets, err := adm.FetchOffsets(t.Context(), cfg.Group)
			if err != nil {
				return err
			}
			for p := range int32(2) {
				if got, ok := offsets.Lookup(cfg.Topic, p); !ok || got.At != want+int64(p) {
					return fmt.Errorf("partition %d: got commit %d, want %d", p, got.At, want+int64(p))
				}
			}
			return nil
		}
		testenv.Eventually(t, patience, func() error { return committed(5) })
		stop()
		if err := committed(7); err != nil {
			t.Error(err)
		}
	})
}

func TestQuestionsNeedARunningConsumer(t *testing.T) {
	c, err := NewConsumer(Config{}, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Range(t.Context(), 0, time.Now()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Range: got %v, want %v", err, ErrNotRunning)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Ping: got %v, want %v", err, ErrNotRunning)
	}
}
