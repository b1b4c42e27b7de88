package topic

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/internal/testenv"
)

// sink stands for what keeps the progress of each partition: like it, it takes a
// step only from where it is.
type sink struct {
	mu     sync.Mutex
	next   map[int32]int64
	gaps   int
	owners map[int32]string
}

func newSink() *sink { return &sink{next: make(map[int32]int64), owners: make(map[int32]string)} }

// worker appends all records to the sink, and seeks when another got ahead.
func (s *sink) worker(name string) func(context.Context, *Partition) error {
	return func(ctx context.Context, p *Partition) error {
		p.SeekTo(s.position(p.ID))
		for {
			recs, err := p.Next(ctx, time.Second)
			if err != nil {
				return nil
			}
			if len(recs) == 0 {
				continue
			}
			if next, ok := s.append(name, p.ID, recs); ok {
				p.Done(next)
			} else {
				p.SeekTo(next)
			}
		}
	}
}

func (s *sink) append(name string, id int32, recs []*kgo.Record) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range recs {
		switch {
		case r.Offset < s.next[id]:
			return s.next[id], false
		case r.Offset > s.next[id]:
			s.gaps++
		}
		s.next[id] = r.Offset + 1
	}
	s.owners[id] = name
	return s.next[id], true
}

func (s *sink) position(id int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next[id]
}

// await waits until all partitions got to next. An empty owner is anybody.
func (s *sink) await(t *testing.T, partitions int32, next int64, owner string) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range partitions {
			if s.next[id] != next {
				return fmt.Errorf("partition %d is at %d, want %d", id, s.next[id], next)
			}
			if owner != "" && s.owners[id] != owner {
				return fmt.Errorf("partition %d is with %q, want %q", id, s.owners[id], owner)
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gaps > 0 {
		t.Errorf("got %d gaps, want none", s.gaps)
	}
}

// network is one that can be cut.
type network struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, nw, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return nil, &net.OpError{Op: "dial", Net: nw, Err: errors.New("the network is cut")}
	}
	c, err := (&net.Dialer{}).DialContext(ctx, nw, addr)
	if err == nil {
		n.conns = append(n.conns, c)
	}
	return c, err
}

func (n *network) set(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
	if cut {
		for _, c := range n.conns {
			c.Close()
		}
		n.conns = nil
	}
}

func (n *network) config(cfg Config) Config {
	cfg.Options = append(cfg.Options, kgo.Dialer(n.dial))
	return cfg
}

func TestAnotherMemberTakesOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(stop func(), n *network)
	}{
		{"leaves", func(stop func(), _ *network) { stop() }},
		{"vanishes", func(_ func(), n *network) { n.set(true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, 4, func(t *testing.T, cfg Config) {
				s, n := newSink(), &network{}
				_, stop := start(t, n.config(cfg), s.worker("a"))
				for p := range cfg.Partitions {
					fill(t, cfg, p, 0, 100)
				}
				s.await(t, cfg.Partitions, 100, "a")

				b, _ := start(t, cfg, s.worker("b"))
				testenv.Eventually(t, patience, func() error {
					if got, _ := b.Assigned(); got != 2 {
						return fmt.Errorf("b has %d partitions, want 2", got)
					}
					return nil
				})
				for p := range cfg.Partitions {
					fill(t, cfg, p, 100, 100)
				}
				s.await(t, cfg.Partitions, 200, "")

				tt.end(stop, n)
				for p := range cfg.Partitions {
					fill(t, cfg, p, 200, 100)
				}
				s.await(t, cfg.Partitions, 300, "")
				testenv.Eventually(t, patience, func() error {
					if got, _ := b.Assigned(); got != 4 {
						return fmt.Errorf("b has %d partitions, want 4", got)
					}
					return nil
				})
				for p := range cfg.Partitions {
					fill(t, cfg, p, 300, 1)
				}
				s.await(t, cfg.Partitions, 301, "b")
			})
		})
	}
}

func TestRecoversFromACutNetwork(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		s, n := newSink(), &network{}
		start(t, n.config(cfg), s.worker("a"))
		for p := range cfg.Partitions {
			fill(t, cfg, p, 0, 100)
		}
		s.await(t, cfg.Partitions, 100, "a")
		n.set(true)
		for p := range cfg.Partitions {
			fill(t, cfg, p, 100, 100)
		}
		n.set(false)
		s.await(t, cfg.Partitions, 200, "a")
	})
}

func TestRecoversFromABrokerThatWasStopped(t *testing.T) {
	t.Parallel()
	ecfg := EmbeddedConfig{Dir: t.TempDir(), Topic: "events", Partitions: 2}
	b, err := StartBroker(ecfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig([]string{b.Addr()}, "events", 2)
	s := newSink()
	start(t, cfg, s.worker("a"))
	for p := range cfg.Partitions {
		fill(t, cfg, p, 0, 100)
	}
	s.await(t, cfg.Partitions, 100, "a")
	b.Close()

	_, port, _ := net.SplitHostPort(cfg.Brokers[0])
	ecfg.Port, _ = strconv.Atoi(port)
	if b, err = StartBroker(ecfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for p := range cfg.Partitions {
		fill(t, cfg, p, 100, 100)
	}
	s.await(t, cfg.Partitions, 200, "a")
}

// A worker that stands still for longer than the session timeout keeps its
// partition, and what waits for it stays bounded.
func TestSlowWorkerKeepsItsPartition(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		const n, valueSize = 6000, 2000
		cfg.QueueBytes = 200_000
		var recs []*kgo.Record
		for range n {
			v := make([]byte, valueSize)
			rand.Read(v) // what is fetched at once is bounded as compressed
			recs = append(recs, &kgo.Record{Value: v})
		}
		write(t, cfg, recs...)
		var starts atomic.Int32
		type result struct {
			queued, records int
			err             error
		}
		results := make(chan result, 1)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			starts.Add(1)
			p.SeekTo(0)
			var res result
			select {
			case <-ctx.Done():
				res.err = ctx.Err()
			case <-time.After(cfg.SessionTimeout + 2*time.Second):
				res.queued = p.queued()
			}
			for res.err == nil && res.records < n {
				var recs []*kgo.Record
				recs, res.err = p.Next(ctx, 5*time.Second)
				if len(recs) > 0 && recs[0].Offset != int64(res.records) {
					res.err = fmt.Errorf("got offset %d, want %d", recs[0].Offset, res.records)
				}
				res.records += len(recs)
			}
			results <- res
			<-ctx.Done()
			return nil
		})
		res := within(t, results, "records")
		if res.err != nil || starts.Load() != 1 {
			t.Errorf("got %v and %d starts, want none and 1: the worker lost its partition", res.err, starts.Load())
		}
		// A queue just below its limit, and one fetch on top, which is a megabyte or
		// a batch.
		if limit := 2*500 + 1<<20/valueSize + cfg.QueueBytes/valueSize; res.queued == 0 || res.queued > limit {
			t.Errorf("got %d records waiting, want between 1 and %d", res.queued, limit)
		}
	})
}

func TestRetentionPassedThePosition(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 100)
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: cfg.Topic, Partition: 0, At: 40})
		if _, err := admin(t, cfg).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		first := make(chan int64, 1)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.SeekTo(7)
			if recs, err := p.Next(ctx, patience); err == nil && len(recs) > 0 {
				first <- recs[0].Offset
			}
			<-ctx.Done()
			return nil
		})
		if got := within(t, first, "record"); got != 40 {
			t.Errorf("got offset %d, want the oldest, 40", got)
		}
	})
}

// A position that the log hasn't reached yet: nothing below it is delivered.
func TestLogEndsBeforeThePosition(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 10)
		ends, first := make(chan int64, 1), make(chan int64, 1)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.SeekTo(25)
			for p.HighWatermark() < 0 && ctx.Err() == nil {
				if recs, _ := p.Next(ctx, 10*time.Millisecond); recs != nil {
					t.Errorf("got offset %d, want nothing", recs[0].Offset)
				}
			}
			ends <- p.HighWatermark()
			if recs, err := p.Next(ctx, patience); err == nil && len(recs) > 0 {
				first <- recs[0].Offset
			}
			<-ctx.Done()
			return nil
		})
		if got := within(t, ends, "end"); got != 10 {
			t.Errorf("HighWatermark: got %d, want 10", got)
		}
		fill(t, cfg, 0, 10, 30)
		if got := within(t, first, "record"); got != 25 {
			t.Errorf("got offset %d, want 25", got)
		}
	})
}

func TestTopicGone(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		c, err := NewConsumer(cfg, nil, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		s, ended := newSink(), make(chan error, 1)
		go func() { ended <- c.Run(t.Context(), s.worker("a")) }()
		fill(t, cfg, 0, 0, 10)
		fill(t, cfg, 1, 0, 10)
		s.await(t, 2, 10, "a")
		if _, err := admin(t, cfg).DeleteTopic(t.Context(), cfg.Topic); err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(t.Context(), cfg, testLog(t)); err != nil {
			t.Fatal(err)
		}
		fill(t, cfg, 0, 0, 100)
		if err := within(t, ended, "end of Run"); !errors.Is(err, ErrTopicGone) {
			t.Errorf("Run: got %v, want %v", err, ErrTopicGone)
		}
		if got := s.position(0); got != 10 {
			t.Errorf("got records up to %d, want none of the other topic", got)
		}
	})
}

func TestCorruptBatch(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		t.Run(fmt.Sprintf("skip=%t", skip), func(t *testing.T) {
			t.Parallel()
			_, cfg := embedded(t, 1)
			cfg.SkipCorrupt = skip
			fill(t, cfg, 0, 0, 10)
			writeCorrupt(t, cfg, 7)
			fill(t, cfg, 0, 17, 10)
			got := make(chan int64, 100)
			c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error {
				p.SeekTo(0)
				for {
					recs, err := p.Next(ctx, time.Second)
					if err != nil {
						return nil
					}
					for _, r := range recs {
						got <- r.Offset
					}
				}
			})
			for want := range int64(10) {
				if o := within(t, got, "record"); o != want {
					t.Fatalf("got offset %d, want %d", o, want)
				}
			}
			if skip {
				if o := within(t, got, "record"); o != 17 {
					t.Errorf("got offset %d after the corrupt batch, want 17", o)
				}
			}
			testenv.Eventually(t, patience, func() error {
				if n := value(t, c.m.corrupt); n != 1 {
					return fmt.Errorf("got %v corrupt batches, want 1", n)
				}
				return nil
			})
			if !skip && len(got) > 0 {
				t.Errorf("got offset %d, want nothing after the corrupt batch", <-got)
			}
		})
	}
}

// writeCorrupt writes a batch whose records don't decompress. Only the embedded
// broker takes that.
func writeCorrupt(t *testing.T, cfg Config, records int32) {
	t.Helper()
	const lz4 = 3
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1,
		Magic:                2,
		Attributes:           lz4,
		LastOffsetDelta:      records - 1,
		FirstTimestamp:       time.Now().UnixMilli(),
		MaxTimestamp:         time.Now().UnixMilli(),
		ProducerID:           -1,
		ProducerEpoch:        -1,
		FirstSequence:        -1,
		NumRecords:           records,
		Records:              []byte("this was never compressed"),
	}
	raw := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))

	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	md, err := kadm.NewClient(cl).Metadata(t.Context(), cfg.Topic)
	if err != nil {
		t.Fatal(err)
	}
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = raw
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = cfg.Topic, md.Topics[cfg.Topic].ID, append(topic.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 5000, append(req.Topics, topic)
	resp, err := cl.Broker(int(md.Topics[cfg.Topic].Partitions[0].Leader)).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}
