package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// ErrEviction reports a Redis that may throw away lanes and positions when its
// memory is full, which would lose events without a word.
var ErrEviction = errors.New("redis maxmemory-policy is not noeviction")

// RedisConfig holds what an operator may set. The zero value works.
type RedisConfig struct {
	Addr      string        // host:port, or a redis:// or rediss:// URL; 127.0.0.1:6379 if empty
	Password  string        // instead of the URL's
	Prefix    string        // of every key; "es:" if empty
	ReadCount int           // entries of one lane per read; if zero, 256 shared out over the lanes
	Block     time.Duration // how long a read waits for news, and how often positions are read; 1s if zero
}

// Redis keeps lanes, control stream and presence in a Redis server. A call that
// fails is not repeated: its error is returned, and a later call reconnects.
// All methods may be called concurrently.
//
// Keys, all below the prefix:
//
//	{<p>}:lane             stream, entry <last offset>-1, field b
//	{<p>}:pos              hash: topic, next, first, synced, beat
//	{<p>:<s>}:lane, :pos   the same, of shard s if there are several
//	epoch                  identity of the store's content
//	topic                  hash: id, partitions, shards
//	{control}              stream, field s (seats) or f (filter)
//	{control}:gws          set of gateways
//	{control}:gw:<16 hex>  hash: seat -> subscriber, # -> sequence
type Redis struct {
	client rueidis.Client
	cfg    RedisConfig
	log    *slog.Logger

	trim struct { // of the control stream; see control.go
		sync.Mutex
		base  ControlID
		since time.Time
	}
}

// callTimeout bounds a call on a connection that doesn't answer.
const callTimeout = 3 * time.Second

// NewRedis returns a Redis. An unreachable server is no error, but a
// configuration that can't be right is.
func NewRedis(cfg RedisConfig, log *slog.Logger) (*Redis, error) {
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:6379")
	cfg.Prefix = cmp.Or(cfg.Prefix, "es:")
	cfg.Block = cmp.Or(cfg.Block, time.Second)
	opt, err := clientOption(cfg)
	if err != nil {
		return nil, fmt.Errorf("redis address: %w", err)
	}
	client, err := rueidis.NewClient(opt)
	if client == nil {
		return nil, fmt.Errorf("redis client: %w", err)
	}
	if err != nil {
		log.Warn("redis not reachable yet", "err", err)
	}
	return &Redis{client: client, cfg: cfg, log: log}, nil
}

// clientOption chooses small buffers and no client-side cache: a connection
// costs 0.2 MB so, and 1.4 MB by default. Errors go to the caller, who knows
// what to do next, instead of being retried unseen.
func clientOption(cfg RedisConfig) (rueidis.ClientOption, error) {
	opt := rueidis.ClientOption{InitAddress: []string{cfg.Addr}}
	if strings.Contains(cfg.Addr, "://") {
		var err error
		if opt, err = rueidis.ParseURL(cfg.Addr); err != nil {
			return opt, err
		}
	}
	opt.Password = cmp.Or(cfg.Password, opt.Password)
	opt.ForceSingleClient = true // also boots while Redis is down
	opt.DisableCache = true
	opt.DisableRetry = true
	opt.ReadBufferEachConn = 64 << 10
	opt.WriteBufferEachConn = 64 << 10
	opt.RingScaleEachConn = 8
	opt.ConnWriteTimeout = callTimeout
	opt.Dialer.Timeout = callTimeout
	return opt, nil
}

// Close ends all connections; calls in progress fail.
func (r *Redis) Close() { r.client.Close() }

// Ping reports whether Redis answers.
func (r *Redis) Ping(ctx context.Context) error {
	if err := r.client.Do(ctx, r.client.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("redis ping: %w", err)
	}
	return nil
}

// CheckConfig returns ErrEviction if Redis is configured to evict keys. A
// server that doesn't tell its configuration, as managed ones do, passes.
func (r *Redis) CheckConfig(ctx context.Context) error {
	const key = "maxmemory-policy"
	got, err := r.client.Do(ctx, r.client.B().ConfigGet().Parameter(key).Build()).AsStrMap()
	if _, refused := rueidis.IsRedisErr(err); refused {
		return nil
	}
	if err != nil {
		return fmt.Errorf("redis config get %s: %w", key, err)
	}
	if policy := got[key]; policy != "" && policy != "noeviction" {
		return fmt.Errorf("%w but %s", ErrEviction, policy)
	}
	return nil
}

func (r *Redis) key(name string) string           { return r.cfg.Prefix + name }
func (r *Redis) laneKey(sh Shard, p int32) string { return r.partitionKey(sh, p) + ":lane" }
func (r *Redis) posKey(sh Shard, p int32) string  { return r.partitionKey(sh, p) + ":pos" }
func (r *Redis) partitionKey(sh Shard, p int32) string {
	if sh.Of > 1 {
		return r.cfg.Prefix + "{" + strconv.Itoa(int(p)) + ":" + strconv.Itoa(int(sh.Index)) + "}"
	}
	return r.cfg.Prefix + "{" + strconv.Itoa(int(p)) + "}"
}

// pipeline sends the commands in one go and returns the first error. A missing
// value is none.
func (r *Redis) pipeline(ctx context.Context, commands ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	results := r.client.DoMulti(ctx, commands...)
	for _, res := range results {
		if err := res.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
	}
	return results, nil
}
