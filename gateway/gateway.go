// Package gateway holds the clients' WebSockets, and streams of server-sent
// events, and delivers to them what the lanes address to their seats.
//
// A client that was told hello gets every event, produced from then on, that
// matches its filters. Within one connection each event comes once, in order of
// its partition. A slow client harms only itself: what waits for it here is
// bounded, and the rest waits for it in the lanes.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/history"
	"eventstream/gateway/presence"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/gateway/uptime"
	"eventstream/internal/ops"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// Gateway is one gateway process.
type Gateway struct {
	cfg         Config
	id          event.Gateway
	lanes       Lanes
	kafka       *history.Kafka // nil: nothing is replayed from Kafka
	player      *history.Player
	acks        *acks.Acks
	renewals    *admission.Renewals
	revoked     *admission.Revocations
	admission   *admission.Admission
	connections *admission.Connections
	log         *slog.Logger
	metrics     *metrics
	workers     []*worker
	readers     atomic.Pointer[[]*reader.Reader] // by lane shard; set before topic is, and replaced while nobody is connected
	presence    *presence.Presence
	sockets     *trouble.Trouble // that engines don't take
	recoveries  *trouble.Trouble // of clients that missed something
	pollers     socket.Engine
	threads     socket.Engine // for TLS
	watchdog    *watchdog.Watchdog
	open        atomic.Int64 // connections, joining ones included
	topic       atomic.Pointer[lane.Topic]
	lookMu      sync.Mutex  // held while partitions are taken up
	moving      atomic.Bool // to another topic, or other shards: nobody is let in

	admitMu  sync.Mutex
	phase    phase
	admitted sync.WaitGroup // handshakes under way

	resuming  sync.WaitGroup
	replayCtx context.Context
	endReplay context.CancelFunc
}

// New returns a Gateway. It does no I/O: Run does.
// Without a Replayer nothing is replayed from Kafka, without Acks nothing can be
// acknowledged: both may be nil.
func New(cfg Config, l Lanes, r Replayer, a Acks, reg prometheus.Registerer, log *slog.Logger) *Gateway {
	cfg = cfg.withDefaults()
	g := &Gateway{cfg: cfg, id: cmp.Or(cfg.id, event.Gateway(rand.Uint64())), lanes: l, log: log}
	if r != nil {
		g.kafka = history.NewKafka(r)
	}
	g.player = history.NewPlayer(g.kafka, cfg.patience)
	g.replayCtx, g.endReplay = context.WithCancel(context.Background())
	g.metrics = newMetrics(reg, g)
	g.acks = acks.New(a, acks.Config{
		Timeout: cfg.timeout, MaxBytes: cfg.maxAckBytes,
		Topic: func() event.TopicID { return g.topic.Load().ID }, Check: g.checkReach,
		Saved: g.metrics.acks, Failures: g.metrics.ackFailures, Refused: g.metrics.acksRefused,
	}, log)
	g.revoked = admission.NewRevocations(cfg.Revocations, cfg.timeout, g.expelAll, log)
	g.renewals = admission.NewRenewals(cfg.Tokens, g.revoked)
	g.admission = admission.New(admission.Config{
		Tokens: cfg.Tokens, Revoked: g.revoked.Has, Origins: cfg.Origins, Hosts: cfg.Hosts, Proxies: cfg.Proxies,
		Compress: cfg.Compress, Durable: a != nil, Replays: r != nil,
		CountAddress: cfg.MaxPerAddress > 0, HandshakeRate: cfg.HandshakeRate, HandshakeRateAddress: cfg.HandshakeRateAddress,
		HandshakeRateSubscriber: cfg.HandshakeRateSubscriber, SpareLoopback: cfg.SpareLoopback, Limited: g.metrics.limited,
	})
	g.connections = admission.NewConnections(cfg.MaxPerSubscriber, cfg.MaxPerAddress)
	g.recoveries = trouble.New(log, "replay failed; the client may try again", "replays work again")
	g.pollers, g.threads = socket.NewPollers(), socket.NewThreads()
	g.sockets = trouble.NewError(log, "a connection can't be held, and its client was answered 503", "connections can be held again")
	g.watchdog = watchdog.New(log)
	g.presence = presence.New(l, presence.Config{
		Gateway: g.id, ResumeWindow: cfg.ResumeWindow, Timeout: cfg.timeout, After: cfg.afterSeat,
		Readers: g.presenceReaders, Grow: g.look,
		GiveUp:   func(upTo event.Seat) { g.dismiss(1, upTo, "the gateway was cut off; reconnect") },
		Failures: g.metrics.redisFailures, Emptied: g.metrics.emptied,
	}, g.watchdog, log)
	g.watchdog.Lock("the lock of admissions", &g.admitMu)
	g.watchdog.Lock("the lock of acknowledgements", g.acks.Lock())
	n := runtime.GOMAXPROCS(0)
	for i := range n {
		g.workers = append(g.workers, newWorker(g, n))
		g.workers[i].pulse = g.watchdog.Loop(fmt.Sprintf("worker %d of the connections", i))
		g.watchdog.Lock(fmt.Sprintf("the lock of mailbox %d", i), &g.workers[i].mu)
	}
	return g
}

// Run serves until ctx ends: it waits for the filter service to have started,
// holds connections, and in the end says goodbye to them. It ends by itself, with an error,
// when its seats are used up.
func (g *Gateway) Run(ctx context.Context) error {
	topic := g.begin(ctx)
	if ctx.Err() != nil {
		return nil
	}
	for _, e := range []socket.Engine{g.pollers, g.threads} {
		if err := e.Start(); err != nil {
			return fmt.Errorf("start to hold sockets: %w", err)
		}
		defer e.Stop()
	}
	return g.serve(ctx, topic)
}

// serve does all of Run's work but for the engines'.
func (g *Gateway) serve(ctx context.Context, topic lane.Topic) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, work := errgroup.WithContext(work)
	g.setUp(topic)
	for _, s := range g.workers {
		group.Go(func() error { return s.run(work) })
	}
	group.Go(func() error { return g.watchdog.Run(work) })
	g.log.Info("gateway is ready", "gateway", g.id.String(), "partitions", topic.Partitions, "shards", len(g.laneReaders()))
	group.Go(func() error { return g.carry(work) })
	group.Go(func() error { return g.presence.Run(work) })
	group.Go(func() error { return g.acks.Run(work) })
	group.Go(func() error { return g.renewals.Run(work) })
	if g.cfg.Tokens != nil {
		group.Go(func() error { return g.revoked.Run(work) })
	}
	group.Go(func() error { return g.followOrders(work) })
	group.Go(func() error { return g.watchLanes(work) })
	group.Go(func() (why error) {
		select {
		case <-ctx.Done():
		case <-g.presence.Used():
			why = presence.ErrUsed
			g.log.Error(why.Error())
		case <-work.Done():
			return nil
		}
		g.moveOn(phaseLeaving)
		if uptime.Sleep(work, g.cfg.DrainDelay) == nil {
			g.drain(g.cfg.Drain)
		}
		stop()
		return why
	})
	return group.Wait()
}

// begin waits until it is known which topic the lanes carry, and in how many
// shards.
func (g *Gateway) begin(ctx context.Context) (topic lane.Topic) {
	said := ""
	for ; ctx.Err() == nil; uptime.Sleep(ctx, retryEvery) {
		err := g.within(ctx, func(ctx context.Context) (err error) {
			topic, err = g.lanes.Topic(ctx)
			return err
		})
		if err == nil {
			break
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			g.log.Info("not ready yet; waiting", "err", err)
		}
	}
	return topic
}

// retryEvery is the pause between two looks for the filter service.
const retryEvery = 250 * time.Millisecond

// within bounds a call to the store.
func (g *Gateway) within(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.timeout)
	defer cancel()
	return call(ctx)
}

// setUp makes the readers of the topic's lanes. From then on the gateway may be
// ready.
func (g *Gateway) setUp(topic lane.Topic) {
	n := max(topic.Shards, 1)
	cfg := reader.Config{
		Gateway: g.id, History: history.Config{RingBytes: g.cfg.RingBytes, SkipMalformed: g.cfg.SkipMalformed, Timeout: g.cfg.timeout},
		Sure: g.presence.Sure, Missed: func() { g.closeAll("events are missing; reconnect") }, Lost: g.tellLost,
		Failures: g.metrics.redisFailures, Malformed: g.metrics.malformed, Misses: g.metrics.missed,
	}
	for _, s := range g.workers {
		cfg.Workers = append(cfg.Workers, s)
	}
	readers := make([]*reader.Reader, n)
	for i := range n {
		readers[i] = reader.New(g.lanes, int(i), lane.Shard{Index: i, Of: n}, topic.Partitions, cfg, g.log)
	}
	for _, s := range g.workers {
		if g.topic.Load() == nil { // no worker runs yet
			s.next = make([][]int64, n)
			continue
		}
		s.tell(topicChanged{int(n)})
	}
	g.readers.Store(&readers)
	g.topic.Store(&topic)
}

// laneReaders returns the readers by lane shard; none before the topic is known.
func (g *Gateway) laneReaders() []*reader.Reader {
	if all := g.readers.Load(); all != nil {
		return *all
	}
	return nil
}

func (g *Gateway) presenceReaders() (all []presence.Reader) {
	for _, r := range g.laneReaders() {
		all = append(all, r)
	}
	return all
}

// readerOf returns the reader of the lanes that a subscriber's events go through.
func (g *Gateway) readerOf(subscriber string) *reader.Reader {
	all := g.laneReaders()
	return all[lane.ShardOf(subscriber, int32(len(all)))]
}

// Alive tells which part of the gateway is stuck, or nil: then the process has to be
// ended.
func (g *Gateway) Alive() error { return g.watchdog.Alive() }

// unready tells why no connection can be taken, or "".
func (g *Gateway) unready() string {
	if g.topic.Load() == nil {
		return "waiting for the filter service"
	}
	if g.moving.Load() {
		return errTopicChanged.Error()
	}
	for _, r := range g.laneReaders() {
		if reason := r.Unready(); reason != "" {
			return reason
		}
	}
	if g.cfg.Tokens != nil && !g.revoked.Known() {
		return "which tokens are revoked is not known yet: the database has not been read"
	}
	if g.presence.Trouble() != nil {
		return storeSilent
	}
	return ""
}

// storeSilent is what clients are told when no seat can be announced. The error itself
// names our servers: it is for operators.
const storeSilent = "the store does not answer"

// Ready tells why no events, or no connections, go through the gateway, or nil.
func (g *Gateway) Ready(context.Context) error {
	if g.reached(phaseLeaving) {
		return errors.New("stopping")
	}
	if reason := g.unready(); reason != "" {
		if err := g.presence.Trouble(); err != nil && reason == storeSilent {
			return err
		}
		return errors.New(reason)
	}
	if g.full() {
		return g.errFull()
	}
	if err := g.stuckLanes(); err != nil {
		return err
	}
	for _, r := range g.laneReaders() {
		if err := r.WaitsForKafka(); err != nil {
			return err
		}
	}
	return g.acks.Ready()
}

// full reports whether there is no room for another connection.
func (g *Gateway) full() bool { return g.open.Load() >= int64(g.cfg.MaxConns) }

func (g *Gateway) errFull() error {
	return fmt.Errorf("this gateway has its limit of %d connections", g.cfg.MaxConns)
}

// stuckLanes tells which partitions nobody looks after. A client may join nevertheless:
// what is produced from then on will come. While some partitions flow, that is nothing
// that another gateway would do better.
func (g *Gateway) stuckLanes() error {
	var first error
	flows := false
	for _, r := range g.laneReaders() {
		reason, all := r.Stuck(g.cfg.stuck)
		flows = flows || !all
		if first == nil && reason != "" {
			first = errors.New(reason)
		}
	}
	if flows {
		return ops.Degraded(first)
	}
	return first
}

// Handler serves /ws, and StreamHandler /sse.
func (g *Gateway) Handler() http.Handler       { return http.HandlerFunc(g.serveWS) }
func (g *Gateway) StreamHandler() http.Handler { return http.HandlerFunc(g.serveSSE) }
