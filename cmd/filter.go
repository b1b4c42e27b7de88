package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"eventstream/filter/pipeline"
	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/lane"
)

// The values of --kafka-isolation.
const (
	readCommitted   = "read_committed"
	readUncommitted = "read_uncommitted"
)

// filterFlags configure how events are matched.
type filterFlags struct {
	Group     string        `env:"GROUP" envDefault:"eventstream-filter"`
	Shard     string        `env:"SHARD" envDefault:"0/1"`
	Retention time.Duration `env:"LANE_RETENTION" envDefault:"10m"`
	Interval  time.Duration `env:"APPEND_INTERVAL" envDefault:"5ms"`
	Leave     time.Duration `env:"LEAVE_AFTER" envDefault:"10s"`
	Compare   time.Duration `env:"COMPARE_EVERY" envDefault:"5m"`
	Isolation string        `env:"KAFKA_ISOLATION" envDefault:"read_committed"`
	Skip      bool          `env:"KAFKA_SKIP_CORRUPT"`
	Letters   string        `env:"DEAD_LETTERS"`

	GCPercent int `env:"GC_PERCENT" envDefault:"400"`

	ReplayMaxAge   time.Duration `env:"REPLAY_MAX_AGE" envDefault:"24h"`
	TimeSkew       time.Duration `env:"REPLAY_TIME_SKEW" envDefault:"1h"`
	ReplayMaxBytes int64         `env:"REPLAY_MAX_BYTES" envDefault:"1073741824"`
	MaxReplays     int           `env:"MAX_REPLAYS" envDefault:"4096"`

	Secret string `env:"REPLAY_SECRET"` // not a flag: other users of the machine can see flags
}

func (f *filterFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.Group, "group", f.Group, "consumer group")
	fs.StringVar(&f.Shard, "shard", f.Shard, "part of the subscribers to serve, as 2/8: a group of processes for each of 0/8 to 7/8, and 0/1 for all in one")
	fs.DurationVar(&f.Retention, "lane-retention", f.Retention, "how long matched events stay in Redis for clients that come back")
	fs.DurationVar(&f.Interval, "append-interval", f.Interval, "least time between two appends of a busy partition: more costs latency and spares Redis")
	fs.DurationVar(&f.Leave, "leave-after", f.Leave, "after so long without an answer of Redis the partitions are left to others in the consumer group")
	fs.DurationVar(&f.Compare, "compare-every", f.Compare, "how often, about, all filters are compared with PostgreSQL's; 0 for never")
	fs.StringVar(&f.Isolation, "kafka-isolation", f.Isolation, "read_committed, or read_uncommitted for events of transactions that are open or were aborted, too")
	fs.BoolVar(&f.Skip, "kafka-skip-corrupt", f.Skip, "skip batches that can't be decoded, instead of trying for ever")
	fs.StringVar(&f.Letters, "dead-letters", f.Letters, "topic for records that are no events; off to write none; the topic's name and .dlq if empty")
	fs.IntVar(&f.GCPercent, "gc-percent", f.GCPercent, "how far the heap may grow between two garbage collections, in percent of what is in use; GOGC counts instead if it is set")
	fs.DurationVar(&f.ReplayMaxAge, "replay-max-age", f.ReplayMaxAge, "how old events may be that are replayed from Kafka")
	fs.DurationVar(&f.TimeSkew, "replay-time-skew", f.TimeSkew, "by how much the times of a partition's records may be out of order: a replay until a time reads so much further; 0 if they are in order")
	fs.Int64Var(&f.ReplayMaxBytes, "replay-max-bytes", f.ReplayMaxBytes, "how many bytes of events one replay may have")
	fs.IntVar(&f.MaxReplays, "max-replays", f.MaxReplays, "how many replays may be under way at once")
}

func (f *filterFlags) check() error {
	if f.Retention < time.Second || f.Interval <= 0 || f.Leave < time.Second {
		return errors.New("--lane-retention and --leave-after must be at least 1s, --append-interval more than 0")
	}
	if f.Compare != 0 && f.Compare < time.Second {
		return errors.New("--compare-every must be at least 1s, or 0 for never")
	}
	if _, err := lane.ParseShard(f.Shard); err != nil {
		return fmt.Errorf("--shard: %w", err)
	}
	if f.Isolation != readCommitted && f.Isolation != readUncommitted {
		return fmt.Errorf("--kafka-isolation %q: want %s or %s", f.Isolation, readCommitted, readUncommitted)
	}
	if f.GCPercent < 10 {
		return errors.New("--gc-percent must be at least 10")
	}
	if f.ReplayMaxAge < time.Second || f.ReplayMaxBytes < 1 || f.MaxReplays < 1 {
		return errors.New("--replay-max-age must be at least 1s, --replay-max-bytes and --max-replays at least 1")
	}
	if f.TimeSkew < 0 || f.TimeSkew > maxTimeSkew {
		return fmt.Errorf("--replay-time-skew must be 0 to %s", maxTimeSkew)
	}
	return nil
}

const maxTimeSkew = 10 * 365 * 24 * time.Hour

// noLetters instead of a topic's name turns dead letters off.
const noLetters = "off"

// group returns the consumer group. Each shard has one, whose processes divide all
// partitions among them.
func (f *filterFlags) group(sh lane.Shard) string {
	if sh.Of <= 1 {
		return f.Group
	}
	return fmt.Sprintf("%s.%d-of-%d", f.Group, sh.Index, sh.Of)
}

// collect makes garbage collections rarer. Filters are a large heap that hardly
// changes; marking it again and again is the largest item in the profile.
func (f *filterFlags) collect() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(f.GCPercent)
	}
}

func (a *app) filterCommand() (*cobra.Command, error) {
	var listen listenFlags
	var kafka kafkaFlags
	var redis redisFlags
	var postgres postgresFlags
	var registry registryFlags
	var own filterFlags
	if err := a.fromEnvAll(&listen, &kafka, &redis, &postgres, &registry, &own); err != nil {
		return nil, err
	}
	c := &cobra.Command{
		Use:   "filter",
		Short: "Match events against filters",
		Long: "Takes events off Kafka, finds the subscribers whose filters match, and appends the\n" +
			"matches to Redis for the gateways. Start several: they share the partitions. Where one\n" +
			"set can't match for all subscribers, start one for each --shard.\n" +
			"Each of them replays what Kafka still holds for gateways and the API: POST /replay. If they\n" +
			"share a secret of at least 32 characters, EVENTSTREAM_REPLAY_SECRET, nobody else may ask.\n" +
			"It makes the topic and the schema itself, unless told not to, and waits for servers that are down.",
		Example: "  eventstream filter --kafka kafka:9092 --redis redis:6379 --postgres postgres://user:secret@db/eventstream",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			listen.reloads = &a.reloads
			if err := own.check(); err != nil {
				return usageError{err}
			}
			if err := registry.check(a.config); err != nil {
				return err
			}
			kcfg, err := kafka.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			secrets, err := replaySecrets(own.Secret)
			if err != nil {
				return err
			}
			hosts, err := listen.hosts()
			if err != nil {
				return err
			}
			listen.guarded = len(secrets) > 0
			own.collect()
			s, err := postgres.open()
			if err != nil {
				return err
			}
			defer s.Close()
			lanes, err := redis.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			defer lanes.Close()
			ln, err := listen.open(ctx, plainListen, a.log)
			if errors.Is(err, ops.ErrExposed) {
				err = usageError{fmt.Errorf("%w, or share a secret with gateways and the API: EVENTSTREAM_REPLAY_SECRET", err)}
			}
			if err != nil {
				return err
			}
			g := run.Group{Log: a.log}
			g.Add("files", func(ctx context.Context) error { return a.reloads.run(ctx, a.log) })
			shard, err := lane.ParseShard(own.Shard)
			if err != nil {
				return err
			}
			if own.Letters == kafka.Topic {
				return usageError{fmt.Errorf("--dead-letters %q: want another topic than that of the events", own.Letters)}
			}
			kcfg.DeadLetters, kcfg.NoDeadLetters = own.Letters, own.Letters == noLetters
			kcfg.Group, kcfg.SkipCorrupt, kcfg.Uncommitted = own.group(shard), own.Skip, own.Isolation == readUncommitted
			cfg := pipeline.Config{
				Shard: shard, Retention: own.Retention, Interval: own.Interval, LeaveAfter: own.Leave,
				ReplayMaxAge: own.ReplayMaxAge, ReplayMaxBytes: own.ReplayMaxBytes, MaxReplays: own.MaxReplays,
			}
			if cfg.TimeSkew = own.TimeSkew; own.TimeSkew == 0 {
				cfg.TimeSkew = -1
			}
			if cfg.Compare = own.Compare; own.Compare == 0 {
				cfg.Compare = -1 // zero would mean the default
			}
			here := newProcess(&g, "filter", a.version, a.log)
			source, closed, err := registry.source(a.config, &a.reloads, here.reg, a.log)
			if err != nil {
				return err
			}
			defer closed()
			cfg.Source = source
			tables := newSchema(s, postgres, a.log)
			if err := here.addFilter(filterService{
				listen: ln, hosts: hosts, cfg: cfg, kafka: kcfg, secrets: secrets, lanes: lanes, filters: migrated{s, tables},
				checks: []ops.Check{tables.ready(), addClock(&g, s, here.reg, a.log)},
			}); err != nil {
				return err
			}
			if err := listen.addAdmin(ctx, &g, here.servers, a.log); err != nil {
				return err
			}
			a.log.Info("filter service listens", "addr", ln.Addr().String())
			return g.Run(ctx)
		},
	}
	fs := c.Flags()
	listen.add(fs, "127.0.0.1:8002")
	kafka.add(fs)
	redis.add(fs)
	postgres.add(fs)
	registry.add(fs)
	own.add(fs)
	return c, nil
}
