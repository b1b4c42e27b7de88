package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrNotRunning reports a question to a Consumer that isn't running.
var ErrNotRunning = errors.New("the consumer isn't running")

// ErrTopicGone reports that the topic was deleted. If there is one of its name
// again, it is another log: its offsets mean other events.
var ErrTopicGone = errors.New("the topic was deleted")

// Consumer is a member of the group that shares the topic's partitions.
//
// It has two Kafka clients: one is in the group and fetches nothing, the other
// fetches and is in no group. So a slow worker never delays a heartbeat or a
// rebalance, and positions are entirely ours.
type Consumer struct {
	cfg Config
	log *slog.Logger
	m   *consumerMetrics

	reach *reachability
	setup *setup

	compacts atomic.Bool // the topic is compacted, as far as is known

	mu     sync.Mutex
	reader *reader // while Run runs
	group  *group
	past   *past
}

// NewConsumer returns a Consumer. It does no I/O: Run does. reg may be nil.
func NewConsumer(cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Consumer, error) {
	cfg = cfg.withDefaults()
	c := &Consumer{cfg: cfg, log: log, reach: cfg.reach(log)}
	c.setup = newSetup(cfg, c.reach, log)
	if err := kgo.ValidateOpts(cfg.clientOptions(c.reach, cfg.readerOptions()...)...); err != nil {
		return nil, fmt.Errorf("kafka options: %w", err)
	}
	if err := kgo.ValidateOpts(cfg.clientOptions(c.reach, c.groupOptions(&group{})...)...); err != nil {
		return nil, fmt.Errorf("kafka group options: %w", err)
	}
	c.m = newConsumerMetrics(reg, c.queued)
	return c, nil
}

// fetchMaxWait is how long a broker waits for records before it answers a fetch.
const fetchMaxWait = 500 * time.Millisecond

func (cfg Config) readerOptions() []kgo.Opt {
	level := kgo.ReadCommitted()
	if cfg.Uncommitted {
		level = kgo.ReadUncommitted()
	}
	return []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // we are told, and decide
		kgo.FetchIsolationLevel(level),
		kgo.KeepControlRecords(), // the worker has to get past them
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(1 << 20),
		kgo.MaxDecompressBatchBytes(64 << 20),
	}
}

// heartbeat is how soon a member learns that another one joined or left, and so
// for how long partitions are nobody's.
const heartbeat = 300 * time.Millisecond

func (c *Consumer) groupOptions(g *group) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(c.cfg.Group),
		kgo.ConsumeTopics(c.cfg.Topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(c.cfg.SessionTimeout/5, heartbeat)),
		kgo.RebalanceTimeout(c.cfg.RebalanceTimeout),
		kgo.DisableAutoCommit(),
		kgo.AdjustFetchOffsetsFn(fetchNothing),
		kgo.OnPartitionsAssigned(g.assigned),
		kgo.OnPartitionsRevoked(g.revoked),
		kgo.OnPartitionsLost(g.lost),
	}
}

// fetchNothing leaves the group's client without anything to fetch.
func fetchNothing(context.Context, map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	return nil, nil
}

// Run takes part in the group until ctx ends. It calls work in a goroutine of
// its own for each partition assigned to us, and ends its context when the
// partition goes away: work then has to return promptly, since another member
// may wait for the partition. If work returns while its context is alive, it is
// called again after a pause, and starts with a SeekTo once more.
//
// Run returns when all work has returned and the group is left. While no broker
// can be reached it goes on trying. It fails with ErrTopicGone.
func (c *Consumer) Run(ctx context.Context, work func(ctx context.Context, p *Partition) error) error {
	fetching, err := c.newReaderClient()
	if err != nil {
		return err
	}
	defer fetching.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := newReader(fetching, c.cfg, c.log, c.m, fail)
	g := &group{ctx: ctx, cfg: c.cfg, log: c.log, m: c.m, reader: r, work: work, workers: make(map[int32]*worker)}
	cl, err := c.cfg.client(c.reach, c.groupOptions(g)...)
	if err != nil {
		return err
	}
	past := &past{open: c.newReaderClient, cfg: c.cfg, log: c.log, m: c.m, idle: pastIdle, compacts: &c.compacts}
	defer past.close(true)
	c.set(r, g, past)
	defer c.set(nil, nil, nil)

	// The reader outlives the workers: they may want records until they return.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { r.run(reading) })
	running.Go(func() { g.watch(ctx, cl) })
	running.Go(func() { g.commitLoop(ctx, cl) })
	<-ctx.Done()
	g.leave(cl)
	stopReading()
	running.Wait()
	if err := context.Cause(ctx); errors.Is(err, ErrTopicGone) {
		return err
	}
	return nil
}

func (c *Consumer) newReaderClient() (*kgo.Client, error) {
	return c.cfg.client(c.reach, c.cfg.readerOptions()...)
}

func (c *Consumer) set(r *reader, g *group, p *past) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader, c.group, c.past = r, g, p
}

func (c *Consumer) running() (*reader, *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader, c.group
}

// Name returns the topic's.
func (c *Consumer) Name() string { return c.cfg.Topic }

// Ping asks a broker whether it is there. If any refuses us, it fails: connections from
// before may still work.
func (c *Consumer) Ping(ctx context.Context) error {
	r, _ := c.running()
	trouble := c.reach.err()
	if r == nil {
		return cmp.Or(trouble, ErrNotRunning)
	}
	if errors.Is(trouble, ErrRefused) {
		return trouble
	}
	if err := r.cl.Ping(ctx); err != nil {
		return fmt.Errorf("ping Kafka: %w", err)
	}
	return nil
}

// Assigned returns how many partitions are assigned to us, and whether we are in
// the group at all: a member may well have none.
func (c *Consumer) Assigned() (partitions int, member bool) {
	r, g := c.running()
	if r == nil {
		return 0, false
	}
	return len(r.partitions()), g.joined.Load()
}

// Members returns how many members the group has, also those that died less than
// a session timeout ago. It works before Run runs.
func (c *Consumer) Members(ctx context.Context) (int, error) {
	cl, err := c.newReaderClient()
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	described, err := kadm.NewClient(cl).DescribeGroups(ctx, c.cfg.Group)
	g := described[c.cfg.Group]
	if err = cmp.Or(err, g.Err); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, fmt.Errorf("members of group %s: %w", c.cfg.Group, err)
	}
	return len(g.Members), nil
}

// Keeps returns how long Kafka keeps each record at least, by the topic's
// configuration: not at all, if it bounds the bytes, or the topic is compacted. It works while Run runs, and fails
// with ErrDenied without the right DESCRIBE_CONFIGS on the topic.
func (c *Consumer) Keeps(ctx context.Context) (time.Duration, error) {
	r, _ := c.running()
	if r == nil {
		return 0, ErrNotRunning
	}
	configs, err := configuration(ctx, r.adm, c.cfg.Topic)
	if err != nil {
		return 0, err
	}
	var keeps time.Duration
	i := slices.IndexFunc(configs, func(entry kadm.Config) bool { return entry.Key == "cleanup.policy" })
	if i >= 0 {
		c.noteCompaction(configs[i].MaybeValue())
	}
	if c.compacts.Load() {
		return 0, nil
	}
	for _, entry := range configs {
		n, err := strconv.ParseInt(entry.MaybeValue(), 10, 64)
		switch {
		case err != nil:
		case entry.Key == "retention.bytes" && n >= 0:
			return 0, nil
		case entry.Key == "retention.ms" && (n < 0 || n > math.MaxInt64/int64(time.Millisecond)):
			keeps = math.MaxInt64 // for ever
		case entry.Key == "retention.ms":
			keeps = time.Duration(n) * time.Millisecond
		}
	}
	return keeps, nil
}

func (c *Consumer) queued() float64 {
	r, _ := c.running()
	if r == nil {
		return 0
	}
	n := 0
	for _, p := range r.partitions() {
		n += p.queued()
	}
	return float64(n)
}
