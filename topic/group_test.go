package topic

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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

// worker appends all records to the sink, and seeks when that isn't where the
// worker thought it was.
func (s *sink) worker(name string) func(context.Context, *Partition) error {
	return func(ctx context.Context, p *Partition) error {
		next := s.position(p.ID)
		p.SeekTo(next)
		for {
			recs, err := p.Next(ctx, 100*time.Millisecond)
			if err != nil {
				return nil
			}
			for i, r := range recs {
				if r.Offset != next+int64(i) {
					s.gap()
				}
			}
			// Without records too, as a worker has to: the sink may have changed.
			at, ok := s.append(name, p.ID, next, len(recs))
			if !ok {
				p.SeekTo(at)
			}
			next = at
			p.Done(next)
		}
	}
}

// append moves a partition from expect by n, if that is where it is.
func (s *sink) append(name string, id int32, expect int64, n int) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next[id] != expect {
		return s.next[id], false
	}
	s.next[id] += int64(n)
	s.owners[id] = name
	return s.next[id], true
}

// forget takes the last n of a partition away, as a failover of Redis may.
func (s *sink) forget(id int32, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[id] = max(0, s.next[id]-n)
}

func (s *sink) gap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps++
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

func TestMembers(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		asks, err := NewConsumer(cfg, nil, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		has := func(want int) {
			t.Helper()
			testenv.Eventually(t, patience, func() error {
				got, err := asks.Members(t.Context())
				if err == nil && got != want {
					err = fmt.Errorf("%d members, want %d", got, want)
				}
				return err
			})
		}
		has(0)
		s := newSink()
		_, stop := start(t, cfg, s.worker("a"))
		has(1)
		start(t, cfg, s.worker("b"))
		has(2)
		stop()
		has(1)
	})
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

// Members lose the network, the sink loses its last steps, and more and more is
// written: in the end everything was read, each time from where it had to.
func TestNothingIsLostInTrouble(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, cfg Config) {
		s := newSink()
		nets := []*network{{}, {}}
		for i, n := range nets {
			start(t, n.config(cfg), s.worker(strconv.Itoa(i)))
		}
		const rounds, perRound = 12, 200
		for round := range rounds {
			for p := range cfg.Partitions {
				fill(t, cfg, p, round*perRound, perRound)
			}
			switch n := nets[round/3%2]; round % 3 {
			case 0:
				n.set(true)
			case 1:
				n.set(false)
			case 2:
				s.await(t, cfg.Partitions, int64(round+1)*perRound, "")
			}
			s.forget(int32(round)%cfg.Partitions, int64(round)*70%300)
		}
		s.await(t, cfg.Partitions, rounds*perRound, "")
	})
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
