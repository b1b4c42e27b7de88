package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/testenv"
)

// transactor is a producer with transactions, each with one record of partition 0.
type transactor struct {
	t  *testing.T
	cl *kgo.Client
}

func newTransactor(t *testing.T, cfg Config, id string) *transactor {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.TransactionalID(cfg.Topic+id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &transactor{t, cl}
}

func (x *transactor) begin(value int, at time.Time) {
	x.t.Helper()
	err := x.cl.BeginTransaction()
	if err == nil {
		err = x.cl.ProduceSync(x.t.Context(), &kgo.Record{Value: []byte(strconv.Itoa(value)), Timestamp: at}).FirstErr()
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *transactor) end(commit kgo.TransactionEndTry) {
	x.t.Helper()
	if err := x.cl.EndTransaction(x.t.Context(), commit); err != nil {
		x.t.Fatal(err)
	}
}

// What is read live, and where partitions end, follows transactions: 0 is committed and 2
// aborted, 4 is open and 5, in no transaction, behind it.
func TestTransactions(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		begin := time.Now().Add(-time.Hour).Truncate(time.Second)
		x := newTransactor(t, cfg, "x")
		x.begin(0, begin)
		x.end(kgo.TryCommit)
		x.begin(2, begin.Add(time.Minute))
		x.end(kgo.TryAbort)
		x.begin(4, begin.Add(2*time.Minute))
		write(t, cfg, &kgo.Record{Value: []byte("5"), Timestamp: begin.Add(3 * time.Minute)})

		uncommitted := cfg
		uncommitted.Uncommitted, uncommitted.Group = true, cfg.Group+"-u"
		all, committed := read(t, uncommitted), read(t, cfg)
		all.has(6, "0", "2", "4", "5")
		committed.has(4, "0")
		r, err := committed.Range(t.Context(), 0, begin)
		if want := (Range{End: 4, Top: 6}); err != nil || r != want {
			t.Errorf("Range: got %+v, %v, want %+v", r, err, want)
		}
		if r, err = all.Range(t.Context(), 0, begin); err != nil || r != (Range{End: 6, Top: 6}) {
			t.Errorf("Range of all: got %+v, %v", r, err)
		}
		for question, want := range map[time.Duration]int64{0: 0, 2 * time.Hour: 4} { // between, a mark is a record of its time
			if at, err := committed.OffsetsAt(t.Context(), begin.Add(question)); err != nil || at[0].At != want {
				t.Errorf("OffsetsAt after %v: got %v, %v, want %d", question, at, err, want)
			}
		}
		ends, err := committed.Ends(t.Context())
		tops, err2 := committed.Tops(t.Context())
		if err = errors.Join(err, err2); err != nil || ends[0].At != 4 || tops[0].At != 6 {
			t.Errorf("got ends %v and tops %v, %v, want 4 and 6", ends, tops, err)
		}
		if got, _ := readPast(t, committed.Consumer, 0, 0, 4); !slices.Equal(got, []int64{0}) {
			t.Errorf("read offsets %v of the past, want 0", got)
		}

		x.end(kgo.TryCommit) // its mark has offset 6
		committed.has(7, "0", "4", "5")
		all.has(7, "0", "2", "4", "5")
	})
}

// reading is a consumer, and what it has read.
type reading struct {
	*Consumer
	t *testing.T

	mu     sync.Mutex
	values []string
	next   int64 // after the last record or mark
	end    int64
}

func read(t *testing.T, cfg Config) *reading {
	t.Helper()
	r := &reading{t: t}
	r.Consumer, _ = start(t, cfg, func(ctx context.Context, p *Partition) error {
		p.SeekTo(0)
		for {
			records, err := p.Next(ctx, 50*time.Millisecond)
			if err != nil {
				return nil
			}
			r.mu.Lock()
			for _, rec := range records {
				if r.next = rec.Offset + 1; !IsMark(rec) {
					r.values = append(r.values, string(rec.Value))
				}
			}
			r.end = p.End()
			r.mu.Unlock()
		}
	})
	return r
}

// has waits until everything up to an offset was read, which had these values, and
// nothing is known to be behind it.
func (r *reading) has(next int64, values ...string) {
	r.t.Helper()
	testenv.Eventually(r.t, patience, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.next != next || r.end != next || !slices.Equal(r.values, values) {
			return fmt.Errorf("read up to %d of %d: %q, want up to %d: %q", r.next, r.end, r.values, next, values)
		}
		return nil
	})
}
