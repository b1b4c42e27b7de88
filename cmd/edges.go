package cmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"eventstream/internal/ops"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/store"
	"eventstream/topic"
)

// kafkaFlags are Kafka's addresses and credentials.
type kafkaFlags struct {
	Access accessFlags

	Kafka      []string      `env:"KAFKA" envDefault:"127.0.0.1:9092"`
	Topic      string        `env:"TOPIC" envDefault:"events"`
	Create     bool          `env:"TOPIC_CREATE" envDefault:"true"`
	Partitions int32         `env:"TOPIC_PARTITIONS" envDefault:"12"`
	Retention  time.Duration `env:"TOPIC_RETENTION" envDefault:"24h"`
}

func (k *kafkaFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&k.Kafka, "kafka", k.Kafka, "Kafka brokers, host:port, separated by commas")
	fs.StringVar(&k.Topic, "topic", k.Topic, "topic of the events; one that was deleted is waited for")
	fs.BoolVar(&k.Create, "topic-create", k.Create, "make the topic, and that of dead letters, if they are missing; a filter service does so only if Redis knows of no topic of its name")
	fs.Int32Var(&k.Partitions, "topic-partitions", k.Partitions, "partitions, if the topic is made")
	fs.DurationVar(&k.Retention, "topic-retention", k.Retention, "retention, if the topic is made")
	k.Access.add(fs)
}

// open checks the flags, and reads the files that they name.
func (k *kafkaFlags) open(reloads *reloads, log *slog.Logger) (cfg topic.Config, err error) {
	for i, addr := range k.Kafka {
		if host, port, err := net.SplitHostPort(strings.TrimSpace(addr)); err != nil || host == "" || port == "" || strings.ContainsAny(addr, "/@") {
			return cfg, usageError{fmt.Errorf("--kafka: broker %d of %d: want host:port", i+1, len(k.Kafka))}
		}
	}
	cfg = topic.Config{Brokers: k.Kafka, Topic: k.Topic, NoCreate: !k.Create, Partitions: k.Partitions, Retention: k.Retention}
	cfg.Access, err = k.Access.open(reloads, log)
	return cfg, err
}

// redisFlags are Redis' addresses and credentials.
type redisFlags struct {
	Redis    string `env:"REDIS" envDefault:"127.0.0.1:6379"`
	Password string `env:"REDIS_PASSWORD"` // not a flag: other users of the machine can see flags
	User     string `env:"REDIS_USER"`
	Prefix   string `env:"REDIS_PREFIX" envDefault:"es:"`

	TLS        bool   `env:"REDIS_TLS"`
	CA         string `env:"REDIS_TLS_CA"`
	Cert       string `env:"REDIS_TLS_CERT"`
	Key        string `env:"REDIS_TLS_KEY"`
	ServerName string `env:"REDIS_TLS_SERVER_NAME"`

	reads int // maximum bytes of one lane read; 0 for the default
}

func (r *redisFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&r.Redis, "redis", r.Redis, "Redis, host:port or redis:// URL; nodes of a Redis Cluster separated by commas;\n"+
		"Sentinels as redis://host:26379?master_set=name (password: EVENTSTREAM_REDIS_PASSWORD)")
	fs.StringVar(&r.User, "redis-user", r.User, "user of Redis' ACLs, instead of the URL's")
	fs.StringVar(&r.Prefix, "redis-prefix", r.Prefix, "prefix of all keys: one Redis can serve several pipelines")
	fs.BoolVar(&r.TLS, "redis-tls", r.TLS, "speak TLS with Redis, as with a rediss:// URL")
	fs.StringVar(&r.CA, "redis-tls-ca", r.CA, "file with the CAs of Redis' certificate, PEM; the system's if empty; read again when it changes")
	fs.StringVar(&r.Cert, "redis-tls-cert", r.Cert, "file with a certificate to show to Redis, PEM; read again when it changes")
	fs.StringVar(&r.Key, "redis-tls-key", r.Key, "file with that certificate's key, PEM")
	fs.StringVar(&r.ServerName, "redis-tls-server-name", r.ServerName, "name that Redis' certificate has; the host that is connected to if empty")
}

// tls returns a source of the TLS configuration; nil if the address alone decides about TLS.
func (r *redisFlags) tls(reloads *reloads, log *slog.Logger) (func() *tls.Config, error) {
	asked := ops.ClientTLS{CA: r.CA, Cert: r.Cert, Key: r.Key, ServerName: r.ServerName}
	secure := r.TLS || strings.HasPrefix(r.Redis, "rediss://") || strings.HasPrefix(r.Redis, "valkeys://")
	switch {
	case !secure && asked != ops.ClientTLS{}:
		return nil, errors.New("--redis-tls-ca, --redis-tls-cert, --redis-tls-key and --redis-tls-server-name need --redis-tls, or a rediss:// URL")
	case (r.Cert == "") != (r.Key == ""):
		return nil, errors.New("--redis-tls-cert and --redis-tls-key: want both or none")
	case !r.TLS && asked == ops.ClientTLS{}:
		return nil, nil
	}
	config, again, err := asked.Open("Redis", log)
	if err != nil {
		return nil, fmt.Errorf("TLS with Redis: %w", err)
	}
	for _, read := range again {
		reloads.add(read)
	}
	return config, nil
}

func (r *redisFlags) open(reloads *reloads, log *slog.Logger) (*lane.Redis, error) {
	config, err := r.tls(reloads, log)
	if err != nil {
		return nil, usageError{err}
	}
	l, err := lane.NewRedis(lane.RedisConfig{Addr: r.Redis, User: r.User, Password: r.Password, TLS: config, Prefix: r.Prefix, ReadBytes: r.reads}, log)
	if err != nil {
		return nil, usageError{err}
	}
	return l, nil
}

// postgresFlags are PostgreSQL's address and how to use it.
type postgresFlags struct {
	Postgres string `env:"POSTGRES" envDefault:"postgres://eventstream:eventstream@127.0.0.1:5432/eventstream"`
	Migrate  bool   `env:"MIGRATE" envDefault:"true"`
}

func (p *postgresFlags) add(fs *pflag.FlagSet) {
	p.addAddress(fs)
	fs.BoolVar(&p.Migrate, "migrate", p.Migrate, "apply pending migrations of the schema; otherwise wait until \"eventstream migrate\" has done so")
}

func (p *postgresFlags) addAddress(fs *pflag.FlagSet) {
	fs.StringVar(&p.Postgres, "postgres", p.Postgres, "PostgreSQL DSN or URL; better given as EVENTSTREAM_POSTGRES")
	fs.Lookup("postgres").DefValue = "$EVENTSTREAM_POSTGRES" // help must not show a password
}

// severalAts reports whether a URL has an unescaped @ in its password. What follows it
// would be parsed as the host, and quoted in errors.
func severalAts(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return isURL && strings.Count(rest, "@") > 1
}

var errPostgres = errors.New("PostgreSQL address (--postgres, EVENTSTREAM_POSTGRES) can't be understood: want postgres://user:password@host:5432/database?sslmode=require, with what is special in the password percent-encoded, or host=… user=… password='…' dbname=…")

func (p *postgresFlags) open() (*store.Postgres, error) {
	s, err := store.NewPostgres(p.Postgres)
	if err == nil && severalAts(p.Postgres) {
		s.Close()
		err = errPostgres
	}
	if err != nil {
		return nil, usageError{errPostgres} // err may quote parts of the password
	}
	return s, nil
}

// filterURLFlags are the addresses of the filter services, for replays.
type filterURLFlags struct {
	URLs   []string `env:"FILTER_URL" envDefault:"http://127.0.0.1:8002"`
	Secret string   `env:"REPLAY_SECRET"` // not a flag: other users of the machine can see flags
}

func (f *filterURLFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.URLs, "filter-url", f.URLs, "filter services, which replay from Kafka what Redis does not hold any more, separated by commas; of each shard at least one\n"+
		"(what they share with those who may ask: EVENTSTREAM_REPLAY_SECRET, at least 32 characters)")
}

func (f *filterURLFlags) open(log *slog.Logger) (*replay.Client, error) {
	secrets, err := replaySecrets(f.Secret)
	if err != nil {
		return nil, err
	}
	c, err := replay.NewClient(f.URLs, secrets, log)
	if err != nil {
		return nil, usageError{fmt.Errorf("--filter-url: %w", err)}
	}
	return c, nil
}

func replaySecrets(text string) (replay.Secrets, error) {
	s, err := replay.ParseSecrets(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("EVENTSTREAM_REPLAY_SECRET: %w", err)}
	}
	return s, nil
}

// pause waits for d. It returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
