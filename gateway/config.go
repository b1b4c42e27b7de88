package gateway

import (
	"cmp"
	"context"
	"time"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/history"
	"eventstream/internal/ops"
	"eventstream/lane"
	"eventstream/origin"
)

// Lanes is what the gateway needs of the store: Redis, or memory.
type Lanes interface {
	Topic(ctx context.Context) (lane.Topic, error)
	Positions(ctx context.Context, sh lane.Shard, partitions int32) ([]lane.Position, error)
	Require(ctx context.Context, sh lane.Shard, partitions int32, synced lane.ControlID) ([]lane.Position, error)
	Tail(ctx context.Context, sh lane.Shard, from []int64, sink func(lane.Batch) error) error
	Range(ctx context.Context, sh lane.Shard, p int32, from, to int64, sink func(lane.Entry) error) (first int64, err error)
	Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error)
	Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (lane.Beat, error)
	Occupant(ctx context.Context, a event.Address) (subscriber string, ok bool, err error)
	FollowOrders(ctx context.Context, g event.Gateway, do func(lane.Order) lane.Answer) error
}

// Replayer replays what Kafka holds: a replay.Client.
type Replayer = history.Replayer

// Acks keeps acknowledgements: PostgreSQL, or memory.
type Acks = acks.Store

// Config holds what an operator may set. The zero value works.
type Config struct {
	MaxConns      int            // open connections; 19,000 if zero
	RingBytes     int            // of the lanes' latest entries, kept in memory for clients that come back; 64 MiB if zero
	MaxPending    int            // bytes of events that may wait for one client; past that it falls behind; 1 MiB if zero
	ResumeWindow  time.Duration  // how long after its end a connection can be resumed; 5 min if zero
	Heartbeat     time.Duration  // a quiet connection gets a message this often; 25 s if zero
	SkipMalformed bool           // go on after an entry of the lanes that can't be read, as if it had been trimmed
	CutOff        time.Duration  // without an answer of the lanes; then clients are sent to other gateways; 10 s if zero
	DrainDelay    time.Duration  // at the end: how long connections are still taken while Ready fails already
	Drain         time.Duration  // then: over what time connections are closed; 10 s if zero
	Compress      bool           // what is sent to clients that ask for permessage-deflate
	Origins       origin.Origins // web origins allowed beside the gateway's own
	Hosts         origin.Hosts   // our names beside localhost and addresses; they count while Tokens is nil

	// Limits; there is none where they are zero.
	MaxPerSubscriber        int         // open connections of one subscriber
	MaxPerAddress           int         // open connections from one address
	HandshakeRate           int         // handshakes a second of those who may come in; so many may come at once
	HandshakeRateAddress    int         // handshakes a second without a good token, from one address; so many may come at once
	HandshakeRateSubscriber int         // handshakes a second of one subscriber, on average over ten
	SpareLoopback           bool        // loopback has no HandshakeRateAddress
	MessageRate             int         // messages a second of one client, on average over ten
	Proxies                 ops.Proxies // whose word for a client's address counts

	Tokens      admission.Tokens          // tells whose tokens are whose; if nil, clients are whoever they say
	Revocations admission.RevocationStore // which of these were taken back; if nil, only what comes as an order

	// Tests set these.
	id          event.Gateway // random if zero
	workers     int           // GOMAXPROCS if zero
	afterSeat   event.Seat    // the first seat that is given out is the next one
	timeout     time.Duration // of a call to the store, and its silence; storeTimeout if zero
	stuck       time.Duration // after which a lane that shows no life counts as stuck; storeTimeout if zero
	maxAckBytes int           // of acknowledgements that wait; 64 MiB if zero
	patience    time.Duration // of a replay with a store that fails; 30 s if zero
	cutOffDrain time.Duration // over what time clients are sent away from a gateway that is cut off; const cutOffDrain if zero
}

// storeTimeout bounds calls to the store, and its silence.
const storeTimeout = 5 * time.Second

// cutOffDrain is over what time clients are sent away from a gateway that is cut off.
const cutOffDrain = 30 * time.Second

// withDefaults returns cfg with values where there are none.
func (cfg Config) withDefaults() Config {
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 19_000)
	cfg.RingBytes = cmp.Or(cfg.RingBytes, 64<<20)
	cfg.MaxPending = cmp.Or(cfg.MaxPending, 1<<20)
	cfg.ResumeWindow = cmp.Or(cfg.ResumeWindow, 5*time.Minute)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 25*time.Second)
	cfg.CutOff = cmp.Or(cfg.CutOff, 10*time.Second)
	cfg.Drain = cmp.Or(cfg.Drain, 10*time.Second)
	cfg.timeout = cmp.Or(cfg.timeout, storeTimeout)
	cfg.stuck = cmp.Or(cfg.stuck, storeTimeout)
	cfg.patience = cmp.Or(cfg.patience, 30*time.Second)
	cfg.cutOffDrain = cmp.Or(cfg.cutOffDrain, cutOffDrain)
	return cfg
}

// heartbeatSeconds is how often a quiet connection gets a message.
func (cfg *Config) heartbeatSeconds() int { return max(1, int(cfg.Heartbeat/time.Second)) }

// deadSeconds is for how long a client may give no sign of life.
func (cfg *Config) deadSeconds() int64 { return int64(cfg.heartbeatSeconds()) * 5 / 2 }
