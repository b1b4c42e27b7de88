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
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/history"
	"eventstream/gateway/presence"
	"eventstream/gateway/reader"
	"eventstream/gateway/socket"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/lane"
)

// Gateway is one gateway process. It puts its parts together, and lets them run.
type Gateway struct {
	cfg       Config
	id        event.Gateway
	log       *slog.Logger
	metrics   *metrics
	watchdog  *watchdog.Watchdog
	gate      *gate
	admission *admission.Admission
	renewals  *admission.Renewals
	revoked   *admission.Revocations
	topics    *topics
	presence  *presence.Presence
	acks      *acks.Acks
	delivery  *delivery.Delivery
	joins     *joins
	pollers   socket.Engine
	threads   socket.Engine    // for TLS
	sockets   *trouble.Trouble // that engines don't take
}

// New returns a Gateway. It does no I/O: Run does.
// Without a Replayer nothing is replayed from Kafka, without Acks nothing can be
// acknowledged: both may be nil.
func New(cfg Config, l Lanes, r Replayer, a Acks, reg prometheus.Registerer, log *slog.Logger) *Gateway {
	cfg = cfg.withDefaults()
	g := &Gateway{
		cfg: cfg, id: cmp.Or(cfg.id, event.Gateway(rand.Uint64())), log: log,
		metrics: newMetrics(reg), watchdog: watchdog.New(log),
		pollers: socket.NewPollers(), threads: socket.NewThreads(),
		sockets: trouble.NewError(log, "a connection can't be held, and its client was answered 503", "connections can be held again"),
	}
	g.gate = &gate{most: cfg.MaxConns, connections: admission.NewConnections(cfg.MaxPerSubscriber, cfg.MaxPerAddress), log: log}
	g.watchdog.Lock("the lock of admissions", &g.gate.mu)
	g.topics = &topics{lanes: l, timeout: cfg.timeout, watchdog: g.watchdog, log: log}
	g.lookAfterClients(r != nil, a)
	g.presence = presence.New(l, presence.Config{
		Gateway: g.id, ResumeWindow: cfg.ResumeWindow, Timeout: cfg.timeout, After: cfg.afterSeat,
		Readers: g.topics.presenceReaders, Grow: g.topics.look,
		GiveUp:   func(upTo event.Seat) { g.delivery.Dismiss(1, upTo, "the gateway was cut off; reconnect") },
		Failures: g.metrics.redisFailures, Emptied: g.metrics.emptied,
	}, g.watchdog, log)
	var kafka *history.Kafka
	if r != nil {
		kafka = history.NewKafka(r)
	}
	player := history.NewPlayer(kafka, cfg.patience)
	g.deliver(player, reg)
	g.joins = &joins{
		id: g.id, lanes: l, kafka: kafka, topics: g.topics, presence: g.presence, acks: g.acks,
		delivery: g.delivery, gate: g.gate, resumed: g.metrics.resumed,
	}
	gauge(reg, "clients_catching_up", "Connections that are being sent what they missed, or were too slow for.", player.Playing)
	gauge(reg, "ring_bytes", "Bytes of the lanes' latest entries in memory.", g.topics.ringBytes)
	gauge(reg, "acks_waiting", "Acknowledgements that are to be saved in the database.", g.acks.Waiting)
	gauge(reg, "revocations", "Revocations of tokens that are enforced.", func() int64 { return int64(g.revoked.Len()) })
	gauge(reg, "revocations_age_seconds", "Time since it was last read from the database which tokens are revoked; 0 if it never was.", g.revoked.Age)
	reg.MustRegister(positionAges{g.topics})
	return g
}

// lookAfterClients makes the parts that know who clients are, and what they acknowledge.
func (g *Gateway) lookAfterClients(replays bool, a Acks) {
	cfg := g.cfg
	g.acks = acks.New(a, acks.Config{
		Timeout: cfg.timeout, MaxBytes: cfg.maxAckBytes,
		Topic: func() event.TopicID { return g.topics.topic.Load().ID }, Check: g.topics.checkReach,
		Saved: g.metrics.acks, Failures: g.metrics.ackFailures, Refused: g.metrics.acksRefused,
	}, g.log)
	g.watchdog.Lock("the lock of acknowledgements", g.acks.Lock())
	g.revoked = admission.NewRevocations(cfg.Revocations, cfg.timeout, func(ctx context.Context) { g.delivery.Expel(ctx) }, g.log)
	g.renewals = admission.NewRenewals(cfg.Tokens, g.revoked)
	g.admission = admission.New(admission.Config{
		Tokens: cfg.Tokens, Revoked: g.revoked.Has, Origins: cfg.Origins, Hosts: cfg.Hosts, Proxies: cfg.Proxies,
		Compress: cfg.Compress, Durable: a != nil, Replays: replays,
		CountAddress: cfg.MaxPerAddress > 0, HandshakeRate: cfg.HandshakeRate, HandshakeRateAddress: cfg.HandshakeRateAddress,
		HandshakeRateSubscriber: cfg.HandshakeRateSubscriber, SpareLoopback: cfg.SpareLoopback, Limited: g.metrics.limited,
	})
}

// deliver makes the part that holds connections, and has readers post to it.
func (g *Gateway) deliver(player *history.Player, reg prometheus.Registerer) {
	cfg := delivery.Config{
		Gateway: g.id, Workers: g.cfg.workers, MaxPending: g.cfg.MaxPending, MessageRate: g.cfg.MessageRate,
		Heartbeat: int64(g.cfg.heartbeatSeconds()), DeadAfter: g.cfg.deadSeconds(),
		Acks: g.acks, Renewals: g.renewals, Player: player, Watchdog: g.watchdog,
		Left: func(subscriber, address string, seat event.Seat) {
			g.presence.Left(seat, time.Now())
			g.gate.leave(subscriber, address)
		},
	}
	if g.cfg.Tokens != nil {
		cfg.Revoked = g.revoked.Has
	}
	g.delivery = delivery.New(cfg, reg, g.log)
	g.topics.changed = g.delivery.SetTopic
	g.topics.reading = reader.Config{
		Gateway: g.id, Workers: g.delivery.Workers(),
		History: history.Config{RingBytes: g.cfg.RingBytes, SkipMalformed: g.cfg.SkipMalformed, Timeout: g.cfg.timeout},
		Sure:    g.presence.Sure, Lost: g.delivery.TellLost,
		Missed:   func() { g.delivery.Dismiss(1, lastSeat, "events are missing; reconnect") },
		Failures: g.metrics.redisFailures, Malformed: g.metrics.malformed, Misses: g.metrics.missed,
	}
}

// Run serves until ctx ends: it waits for the filter service to have started,
// holds connections, and in the end says goodbye to them. It ends by itself, with an error,
// when its seats are used up.
func (g *Gateway) Run(ctx context.Context) error {
	topic := g.topics.begin(ctx)
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
	g.topics.setUp(topic)
	group.Go(func() error { return g.delivery.Run(work) })
	group.Go(func() error { return g.watchdog.Run(work) })
	g.log.Info("gateway is ready", "gateway", g.id.String(), "partitions", topic.Partitions, "shards", len(g.topics.laneReaders()))
	away := func(ctx context.Context) { g.gate.sendAway(ctx, g.delivery) }
	group.Go(func() error { return g.topics.carry(work, away, func() { g.gate.moving.Store(false) }) })
	group.Go(func() error { return g.presence.Run(work) })
	group.Go(func() error { return g.acks.Run(work) })
	group.Go(func() error { return g.renewals.Run(work) })
	orders := &orders{id: g.id, lanes: g.topics.lanes, delivery: g.delivery, metrics: g.metrics, log: g.log}
	if g.cfg.Tokens != nil {
		orders.revoked = g.revoked
		group.Go(func() error { return g.revoked.Run(work) })
	}
	group.Go(func() error { return orders.run(work) })
	off := &cutOff{after: g.cfg.CutOff, over: g.cfg.cutOffDrain, topics: g.topics, gate: g.gate, delivery: g.delivery, times: g.metrics.cutOff, log: g.log}
	group.Go(func() error { return off.run(work) })
	group.Go(func() (why error) {
		select {
		case <-ctx.Done():
		case <-g.presence.Used():
			why = presence.ErrUsed
			g.log.Error(why.Error())
		case <-work.Done():
			return nil
		}
		g.gate.moveOn(phaseLeaving)
		if uptime.Sleep(work, g.cfg.DrainDelay) == nil {
			g.gate.drain(g.delivery, g.cfg.Drain)
		}
		stop()
		return why
	})
	return group.Wait()
}

// Alive tells which part of the gateway is stuck, or nil: then the process has to be
// ended.
func (g *Gateway) Alive() error { return g.watchdog.Alive() }
