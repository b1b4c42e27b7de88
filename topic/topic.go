// Package topic is the Kafka edge: the topic that carries the events, the group
// of consumers that shares its partitions, the producer, the dead letter topic,
// and a broker inside the process for tests and for a run with nothing to
// install.
//
// Where a partition is read from is decided by its worker alone, through SeekTo:
// the authority on progress is whoever keeps what was made of the events. After
// a SeekTo no record from before it is delivered. What is committed to Kafka is a
// shadow for tools that show the lag, and is never read back.
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
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/internal/trouble"
)

// Config holds what an operator may set. The zero value works for a broker on
// this machine.
type Config struct {
	Brokers  []string // host:port; 127.0.0.1:9092 if empty
	Topic    string   // "events" if empty; dead letters go to <topic>.dlq
	Group    string   // "eventstream-filter" if empty
	ClientID string   // "eventstream" if empty

	NoCreate bool // wait for the topic and its dead letter topic, instead of making them

	// Used only to make the topic; one that exists is left as it is.
	Partitions     int32         // 12 if zero
	Replication    int16         // the broker's default if zero or -1
	Retention      time.Duration // 24h if zero
	RetentionBytes int64         // for each partition; no limit if zero
	SegmentBytes   int           // the broker's default if zero

	// BatchBytes is how large the batches that the producer makes may be, and so a record:
	// MaxMessage, if a topic takes more than a million bytes, which it is if zero.
	BatchBytes int

	SkipCorrupt      bool          // go on after a batch that can't be decoded, instead of trying for ever
	QueueBytes       int           // fetched records that wait for the worker of one partition; 4 MiB if zero
	SessionTimeout   time.Duration // 6s if zero, the least that brokers allow by default
	RebalanceTimeout time.Duration // 30s if zero

	Linger          time.Duration // how long the producer waits for more records; 1ms if zero, none if negative
	DeliveryTimeout time.Duration // after which the producer gives up on a record; 30s if zero

	Access Access // how brokers and we know each other

	// Options are passed to the Kafka client last.
	Options []kgo.Opt
}

func (cfg Config) withDefaults() Config {
	if len(cfg.Brokers) == 0 {
		cfg.Brokers = []string{"127.0.0.1:9092"}
	}
	cfg.Topic = cmp.Or(cfg.Topic, "events")
	cfg.Group = cmp.Or(cfg.Group, "eventstream-filter")
	cfg.ClientID = cmp.Or(cfg.ClientID, "eventstream")
	cfg.Partitions = cmp.Or(cfg.Partitions, 12)
	cfg.Replication = cmp.Or(cfg.Replication, -1)
	cfg.Retention = cmp.Or(cfg.Retention, 24*time.Hour)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 4<<20)
	cfg.SessionTimeout = cmp.Or(cfg.SessionTimeout, 6*time.Second)
	cfg.RebalanceTimeout = cmp.Or(cfg.RebalanceTimeout, 30*time.Second)
	cfg.Linger = max(0, cmp.Or(cfg.Linger, time.Millisecond))
	cfg.DeliveryTimeout = cmp.Or(cfg.DeliveryTimeout, 30*time.Second)
	return cfg
}

// DLQ returns the name of the dead letter topic.
func (cfg Config) DLQ() string { return cmp.Or(cfg.Topic, "events") + ".dlq" }

// reach returns the hook of clients that report together.
func (cfg Config) reach(log *slog.Logger) *reachability {
	return &reachability{log: log, access: cfg.Access}
}

// client makes a client. There is no other way to one, so that all have what cfg.Access says.
func (cfg Config) client(reach *reachability, more ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(cfg.clientOptions(reach, more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return cl, nil
}

// clientOptions returns the options of every client that we make.
func (cfg Config) clientOptions(reach *reachability, more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.WithLogger(clientLog(reach.log)),
		kgo.WithHooks(reach),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMaxAge(metadataAge),
	}
	return slices.Concat(opts, cfg.Access.options(), more, cfg.Options)
}

// metadataAge is how soon a partition that was added is noticed: by the leader of the
// group, which has it assigned, by who reads it, and by our producer.
const metadataAge = 10 * time.Second

// Info is what others need to know of the topic.
type Info struct {
	Name       string
	ID         event.TopicID
	Partitions int32
}

// maxRecord is how large records may be in a topic that we make: an event of the largest
// size, with its key and headers.
const maxRecord = event.MaxBytes + 64<<10

// Ensure makes the topic and its dead letter topic if they are missing, unless
// cfg.NoCreate, and tells what the topic is. While no broker answers, or they are not
// there, it tries again, until ctx ends.
func Ensure(ctx context.Context, cfg Config, log *slog.Logger) (Info, error) {
	cfg = cfg.withDefaults()
	return setUp(ctx, cfg, cfg.reach(log), log)
}

// Ensure is that of the package, for the Consumer's topic. With make unset it makes
// nothing. While it waits, Ping tells for what.
func (c *Consumer) Ensure(ctx context.Context, make bool) (Info, error) {
	cfg := c.cfg
	cfg.NoCreate = cfg.NoCreate || !make
	return setUp(ctx, cfg, c.reach, c.log)
}

func setUp(ctx context.Context, cfg Config, reach *reachability, log *slog.Logger) (Info, error) {
	if cfg.Partitions > event.MaxPartitions {
		return Info{}, fmt.Errorf("topic %s: %d partitions are more than %d", cfg.Topic, cfg.Partitions, event.MaxPartitions)
	}
	cl, err := cfg.client(reach,
		kgo.RetryTimeout(3*time.Second),          // we try again ourselves, and say so
		kgo.MetadataMinAge(100*time.Millisecond), // or "no such topic" would be cached for 5 s after we made it
	)
	if err != nil {
		return Info{}, err
	}
	defer cl.Close()
	waiting := trouble.New(log.With("topic", cfg.Topic), "can't set up the topic yet; retrying", "the topic is set up")
	for try := 1; ; try++ {
		info, err := ensure(ctx, kadm.NewClient(cl), cfg, log)
		if err == nil {
			waiting.Worked()
		} else if refused := cfg.Access.refusal(err); refused != nil {
			err = refused
		}
		if err == nil || isFinal(err) {
			return info, err
		}
		wait := backoff(try)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || try > 3 || cfg.NoCreate { // it is new, and not all brokers know it yet
			waiting.Failed(err, "brokers", cfg.Brokers, "in", wait)
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return Info{}, fmt.Errorf("topic %s: %w (%w)", cfg.Topic, context.Cause(ctx), err)
		}
	}
}

func ensure(ctx context.Context, adm *kadm.Client, cfg Config, log *slog.Logger) (Info, error) {
	if !cfg.NoCreate {
		if err := create(ctx, adm, cfg, cfg.Topic, cfg.Partitions, cfg.Retention, log); err != nil {
			return Info{}, err
		}
		// A dead letter waits for a person to look at it.
		if err := create(ctx, adm, cfg, cfg.DLQ(), 1, max(cfg.Retention, 7*24*time.Hour), log); err != nil {
			return Info{}, err
		}
	}
	md, err := adm.Metadata(ctx, cfg.Topic, cfg.DLQ())
	if err == nil {
		err = errors.Join(md.Topics[cfg.Topic].Err, md.Topics[cfg.DLQ()].Err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("metadata of topic %s: %w", cfg.Topic, err)
	}
	t := md.Topics[cfg.Topic]
	n := len(t.Partitions)
	if n > event.MaxPartitions {
		return Info{}, fmt.Errorf("topic %s: %w: has %d, at most %d work", cfg.Topic, errPartitions, n, event.MaxPartitions)
	}
	if n != int(cfg.Partitions) && !cfg.NoCreate {
		log.Warn("topic has another number of partitions than configured; going on with what it has",
			"topic", cfg.Topic, "partitions", n, "configured", cfg.Partitions)
	}
	return Info{Name: cfg.Topic, ID: event.TopicID(t.ID), Partitions: int32(n)}, nil
}

// MaxMessage returns how many bytes of records in a batch the topic takes, 0 if that can't
// be read.
func MaxMessage(ctx context.Context, cfg Config, log *slog.Logger) int {
	cfg = cfg.withDefaults()
	cl, err := cfg.client(cfg.reach(log), kgo.RetryTimeout(3*time.Second))
	if err != nil {
		return 0
	}
	defer cl.Close()
	configs, _ := configuration(ctx, kadm.NewClient(cl), cfg.Topic)
	for _, c := range configs {
		if c.Key == "max.message.bytes" {
			n, _ := strconv.Atoi(c.MaybeValue())
			return n
		}
	}
	return 0
}

// configuration reads that of a topic. It fails with ErrDenied without the right to.
func configuration(ctx context.Context, adm *kadm.Client, name string) ([]kadm.Config, error) {
	described, err := adm.DescribeTopicConfigs(ctx, name)
	var topic kadm.ResourceConfig
	if err == nil {
		topic, err = described.On(name, nil)
	}
	if err = cmp.Or(err, topic.Err); errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
		err = fmt.Errorf("%w: the right DESCRIBE_CONFIGS is missing: %w", ErrDenied, err)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of topic %s: %w", name, err)
	}
	return topic.Configs, nil
}

func create(ctx context.Context, adm *kadm.Client, cfg Config, name string, partitions int32, retention time.Duration, log *slog.Logger) error {
	configs := map[string]*string{"retention.ms": number(retention.Milliseconds()), "max.message.bytes": number(maxRecord)}
	if cfg.RetentionBytes > 0 {
		configs["retention.bytes"] = number(cfg.RetentionBytes)
	}
	if cfg.SegmentBytes > 0 {
		configs["segment.bytes"] = number(int64(cfg.SegmentBytes))
	}
	_, err := adm.CreateTopic(ctx, partitions, cfg.Replication, configs, name)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	log.Info("made topic", "topic", name, "partitions", partitions, "retention", retention)
	return nil
}

var errPartitions = errors.New("too many partitions")

// isFinal tells an answer that another try doesn't change from a broker that
// isn't ready. A new topic is unknown to some brokers for a moment.
func isFinal(err error) bool {
	if errors.Is(err, errPartitions) {
		return true
	}
	answer, ok := errors.AsType[*kerr.Error](err)
	return ok && !answer.Retriable && !errors.Is(err, kerr.UnknownTopicOrPartition)
}

func number(n int64) *string {
	s := strconv.FormatInt(n, 10)
	return &s
}

// backoff is the pause after the given number of failures in a row: a quarter
// of a second, doubling up to one. It is by how much an outage gets longer.
func backoff(failures int) time.Duration {
	return min(time.Second, time.Duration(float64(250*time.Millisecond)*math.Exp2(float64(min(failures, 8)-1))))
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
