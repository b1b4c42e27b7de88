package lane

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// RedisConfig holds what an operator may set. The zero value works.
type RedisConfig struct {
	Addr      string             // see NewRedis; 127.0.0.1:6379 if empty
	Password  string             // instead of the URL's
	User      string             // of Redis' ACLs, instead of the URL's
	TLS       func() *tls.Config // of the next connection; if nil, the URL says whether there is TLS
	Prefix    string             // of every key; "es:" if empty
	ReadCount int                // entries of one lane per read; if zero, as many as ReadBytes allow
	ReadBytes int                // bytes of entries that all reads of lanes bring at a time, about; 16 MiB if zero
	Block     time.Duration      // how long a read waits for news, and how often positions are read; 1s if zero
}

// Redis keeps lanes, control stream and presence in a Redis server, a cluster of
// them, or what Sentinels watch. A call that fails is not repeated: its error is
// returned, and a later call reconnects. All methods may be called concurrently.
//
// Keys, all below the prefix:
//
//	{<p>}:lane             stream, entry <last offset>-1, fields b (packed events) and a (Entry.After)
//	{<p>}:pos              hash: topic, next, first, synced, beat, after, end, lost, skipped
//	{<p>:<s>}:lane, :pos   the same, of shard s if there are several
//	{control}:epoch        identity of the store's content
//	topic                  hash: id, partitions, shards
//	limit:<name>           until when a rate limit is used up, µs
//	{control}              stream, field s (seats) or f (filter)
//	{control}:gws          set of gateways
//	{control}:gw:<16 hex>  hash: seat -> subscriber, # -> sequence
//	{control}:orders       stream, field o: an Order as JSON
//	{control}:following:…  there while the gateway follows them
//	{control}:answers:…    list of Answers to one Order, as JSON
//	{control}:tried        there after a TryWrite
//	{control}:operations   stream, field o: an Operation as JSON
type Redis struct {
	*link
	cfg   RedisConfig
	log   *slog.Logger
	reads reading

	trim struct { // of the control stream; see control.go
		sync.Mutex
		base  ControlID
		since time.Time
	}
}

// NewRedis returns a Redis at cfg.Addr:
//
//	host:port or redis://host:port                one server; rediss:// for TLS
//	host:port,host:port…                          some nodes of a Redis Cluster
//	redis://host:port?master_set=name&addr=h:p…   Sentinels, and what they watch
//
// An unreachable server is no error, but a configuration that can't be right is.
func NewRedis(cfg RedisConfig, log *slog.Logger) (*Redis, error) {
	cfg.Prefix = cmp.Or(cfg.Prefix, "es:")
	cfg.Block = cmp.Or(cfg.Block, time.Second)
	l, err := newLink(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("redis address: %w", err)
	}
	return &Redis{link: l, cfg: cfg, log: log, reads: reading{budget: cmp.Or(cfg.ReadBytes, defaultReadBytes)}}, nil
}

// Ping reports whether Redis answers. Of a cluster it is the node that holds
// presence, without which nothing goes on.
func (r *Redis) Ping(ctx context.Context) error {
	c, err := r.open(ctx)
	if err == nil {
		err = c.Do(ctx, c.B().Exists().Key(r.epochKey()).Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("redis ping: %w", err)
	}
	return nil
}

// TryWrite reports whether Redis takes what is published, by writing a key beside the
// control stream: one that is full, read-only, without its disk or its replicas answers
// a Ping, and refuses that.
func (r *Redis) TryWrite(ctx context.Context) error {
	c, err := r.open(ctx)
	if err == nil {
		err = c.Do(ctx, c.B().Set().Key(r.key("{control}:tried")).Value("1").Ex(triedKept).Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("redis try to write: %w", err)
	}
	return nil
}

const triedKept = time.Minute

func (r *Redis) key(name string) string           { return r.cfg.Prefix + name }
func (r *Redis) laneKey(sh Shard, p int32) string { return r.partitionKey(sh, p) + ":lane" }
func (r *Redis) posKey(sh Shard, p int32) string  { return r.partitionKey(sh, p) + ":pos" }
func (r *Redis) partitionKey(sh Shard, p int32) string {
	if sh.Of > 1 {
		return r.cfg.Prefix + "{" + strconv.Itoa(int(p)) + ":" + strconv.Itoa(int(sh.Index)) + "}"
	}
	return r.cfg.Prefix + "{" + strconv.Itoa(int(p)) + "}"
}

// epochKey has the fate of presence: the node of a cluster that loses the one
// loses the other.
func (r *Redis) epochKey() string { return r.key("{control}:epoch") }

// doMulti is DoMulti of a client.
type doMulti func(context.Context, ...rueidis.Completed) []rueidis.RedisResult

// pipeline sends the commands in one go and returns the first error. A missing
// value is none.
func pipeline(ctx context.Context, do doMulti, commands ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	results := do(ctx, commands...)
	for _, res := range results {
		if err := res.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
	}
	return results, nil
}
