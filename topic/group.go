package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/internal/trouble"
)

// group runs a worker for each partition that the group gives us.
type group struct {
	ctx    context.Context // Run's
	cfg    Config
	log    *slog.Logger
	m      *consumerMetrics
	reader *reader
	work   func(context.Context, *Partition) error
	joined atomic.Bool

	mu      sync.Mutex
	workers map[int32]*worker
}

type worker struct {
	p         *Partition
	cancel    context.CancelFunc
	done      chan struct{} // closed when it has returned
	committed int64         // guarded by group.mu
	looked    bool          // whether the group's offset was reset; guarded by group.mu
}

// assigned is called by the Kafka client with partitions that are new to us.
func (g *group) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	g.joined.Store(true)
	ids := slices.Sorted(slices.Values(added[g.cfg.Topic]))
	if len(ids) == 0 || g.ctx.Err() != nil {
		return
	}
	g.log.Info("partitions assigned", "partitions", ids)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		ctx, cancel := context.WithCancel(g.ctx)
		w := &worker{p: g.reader.own(id), cancel: cancel, done: make(chan struct{}), committed: -1}
		g.workers[id] = w
		go func() {
			defer close(w.done)
			g.supervise(ctx, w.p)
		}()
	}
}

// revoked is called when another member is to get partitions of ours, and with
// all of them when we leave.
func (g *group) revoked(_ context.Context, cl *kgo.Client, gone map[string][]int32) {
	stopped := g.stop(gone[g.cfg.Topic], "partitions revoked", g.log.Info)
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	g.commit(ctx, cl, stopped)
}

// lost is called when the group has given our partitions away without asking.
func (g *group) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	g.joined.Store(false)
	g.stop(gone[g.cfg.Topic], "partitions lost", g.log.Warn)
}

// stop ends the workers of partitions and waits for them, but not for so long
// that the group would throw us out.
func (g *group) stop(ids []int32, why string, log func(string, ...any)) []*worker {
	var stopped []*worker
	g.mu.Lock()
	for _, id := range ids {
		if w := g.workers[id]; w != nil {
			w.cancel()
			stopped = append(stopped, w)
			delete(g.workers, id)
		}
	}
	g.mu.Unlock()
	if len(stopped) == 0 {
		return nil
	}
	log(why, "partitions", slices.Sorted(slices.Values(ids)))
	patience := time.NewTimer(g.cfg.RebalanceTimeout * 2 / 3)
	defer patience.Stop()
	for _, w := range stopped {
		g.reader.disown(w.p)
		select {
		case <-w.done:
		case <-patience.C:
			g.log.Error("a worker doesn't return; its partition goes on without it", "partition", w.p.ID)
			patience.Reset(0)
		}
	}
	return stopped
}

// supervise runs the worker of one partition until ctx ends.
func (g *group) supervise(ctx context.Context, p *Partition) {
	p.trouble = trouble.NewError(g.log.With("partition", p.ID), "partition worker ended; starting it again", "the partition's worker works again")
	for failures := 1; ; failures++ {
		began := time.Now()
		err := g.work(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			failures = 1
		}
		wait := backoff(failures)
		g.m.restarts.Inc()
		p.trouble.Failed(err, "in", wait)
		p.Hold()
		pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
	}
}

// watch logs what is wrong with our membership:
// the client reports that to whoever polls it, though it has no records for us.
func (g *group) watch(ctx context.Context, cl *kgo.Client) {
	membership := trouble.New(g.log.With("group", g.cfg.Group), "trouble with the consumer group; retrying", "the consumer group works again")
	calm := time.AfterFunc(calmAfter, membership.Worked)
	defer calm.Stop()
	for ctx.Err() == nil {
		for _, e := range cl.PollFetches(ctx).Errors() {
			if !isEnd(e.Err) && !isDial(e.Err) { // that no broker is there is said elsewhere
				membership.Failed(e.Err)
				calm.Reset(calmAfter)
			}
		}
	}
}

// calmAfter is after how long without a complaint the membership works.
const calmAfter = 10 * time.Second

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// leave ends all workers and leaves the group.
func (g *group) leave(cl *kgo.Client) {
	g.mu.Lock()
	all := make([]int32, 0, len(g.workers))
	for id := range g.workers {
		all = append(all, id)
	}
	g.mu.Unlock()
	stopped := g.stop(all, "leaving the group", g.log.Info)
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	g.commit(ctx, cl, stopped)
	if err := cl.LeaveGroupContext(ctx); err != nil {
		g.log.Warn("can't leave the group; it notices after the session timeout", "group", g.cfg.Group, "err", err)
	}
	cl.Close()
}

const (
	commitInterval = time.Second
	commitTimeout  = 5 * time.Second
)

// commitLoop commits what is done, for tools that show the lag.
func (g *group) commitLoop(ctx context.Context, cl *kgo.Client) {
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.mu.Lock()
			workers := make([]*worker, 0, len(g.workers))
			for _, w := range g.workers {
				workers = append(workers, w)
			}
			g.mu.Unlock()
			timeout, cancel := context.WithTimeout(ctx, commitTimeout)
			g.commit(timeout, cl, workers)
			cancel()
		}
	}
}

func (g *group) commit(ctx context.Context, cl *kgo.Client, workers []*worker) {
	offsets := make(map[int32]kgo.EpochOffset)
	if err := g.lookForResets(ctx, cl, workers); err != nil && ctx.Err() == nil {
		g.log.Debug("can't look for offsets that were reset", "err", err)
	}
	g.mu.Lock()
	for _, w := range workers {
		if done := w.p.done.Load(); w.looked && done != w.committed {
			offsets[w.p.ID] = kgo.EpochOffset{Epoch: -1, Offset: done}
			w.committed = done
		}
	}
	g.mu.Unlock()
	if len(offsets) == 0 {
		return
	}
	if err := commitOffsets(ctx, cl, g.cfg.Topic, offsets); err != nil && ctx.Err() == nil {
		// Nothing depends on it, and the next one makes up for it.
		g.log.Debug("commit failed", "err", err)
	}
}

func commitOffsets(ctx context.Context, cl *kgo.Client, topic string, offsets map[int32]kgo.EpochOffset) error {
	var failed error
	cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			failed = err
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					failed = fmt.Errorf("partition %d: %w", p.Partition, err)
				}
			}
		}
	})
	return failed
}
