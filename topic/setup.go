package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/internal/trouble"
)

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
// cfg.NoCreate, and tells what the topic is. While no broker answers, or the topic is not
// there, it tries again, until ctx ends. It goes on without a dead letter topic.
func Ensure(ctx context.Context, cfg Config, log *slog.Logger) (Info, error) {
	cfg = cfg.withDefaults()
	return newSetup(cfg, cfg.reach(log), log).run(ctx, !cfg.NoCreate)
}

// Ensure is that of the package, for the Consumer's topic, which it doesn't make unless
// make is set. While it waits, Ping tells for what.
func (c *Consumer) Ensure(ctx context.Context, make bool) (Info, error) {
	return c.setup.run(ctx, make && !c.cfg.NoCreate)
}

// setup looks for the topics, and makes what is missing. It asks for nothing that is there:
// Kafka wants the right to make a topic before it looks whether there is one.
type setup struct {
	cfg   Config
	reach *reachability
	log   *slog.Logger
	dead  *trouble.Trouble // of dead letters
}

func newSetup(cfg Config, reach *reachability, log *slog.Logger) *setup {
	return &setup{cfg, reach, log, trouble.New(log.With("topic", cfg.DLQ()), "records that are no events can't be kept as dead letters", "dead letters can be kept")}
}

func (s *setup) run(ctx context.Context, make bool) (Info, error) {
	cfg := s.cfg
	if cfg.Partitions > event.MaxPartitions {
		return Info{}, fmt.Errorf("topic %s: %d partitions are more than %d", cfg.Topic, cfg.Partitions, event.MaxPartitions)
	}
	cl, err := cfg.client(s.reach,
		kgo.RetryTimeout(3*time.Second),          // we try again ourselves, and say so
		kgo.MetadataMinAge(100*time.Millisecond), // or "no such topic" would be cached for 5 s after we made it
	)
	if err != nil {
		return Info{}, err
	}
	defer cl.Close()
	waiting := trouble.New(s.log.With("topic", cfg.Topic), "can't set up the topic yet; retrying", "the topic is set up")
	for try := 1; ; try++ {
		info, err := s.once(ctx, kadm.NewClient(cl), make)
		if err == nil {
			waiting.Worked()
		} else if refused := cfg.Access.refusal(err); refused != nil {
			err = refused
		}
		if err == nil || isFinal(err) {
			return info, err
		}
		wait := backoff(try)
		if !errors.Is(err, errNew) || try > 3 { // it is new, and not all brokers know it yet
			waiting.Failed(err, "brokers", cfg.Brokers, "in", wait)
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return Info{}, fmt.Errorf("topic %s: %w (%w)", cfg.Topic, context.Cause(ctx), err)
		}
	}
}

// errNew reports that a topic was made a moment ago.
var errNew = errors.New("the topic is new")

func (s *setup) once(ctx context.Context, adm *kadm.Client, make bool) (Info, error) {
	cfg := s.cfg
	t, err := s.provide(ctx, adm, cfg.Topic, make, cfg.Partitions, cfg.Retention)
	if err != nil {
		return Info{}, err
	}
	letters := kadm.TopicDetail{}
	if !cfg.NoDeadLetters { // which wait for a person to look at them
		letters, err = s.provide(ctx, adm, cfg.DLQ(), !cfg.NoCreate, 1, max(cfg.Retention, 7*24*time.Hour))
		s.dead.Saw(err)
	}
	if t.Err != nil || err == nil && letters.Err != nil {
		return Info{}, errNew
	}
	n := len(t.Partitions)
	if n > event.MaxPartitions {
		return Info{}, fmt.Errorf("topic %s: %w: has %d, at most %d work", cfg.Topic, errPartitions, n, event.MaxPartitions)
	}
	if n != int(cfg.Partitions) && make {
		s.log.Warn("topic has another number of partitions than configured; going on with what it has",
			"topic", cfg.Topic, "partitions", n, "configured", cfg.Partitions)
	}
	return Info{Name: cfg.Topic, ID: event.TopicID(t.ID), Partitions: int32(n)}, nil
}

// provide returns a topic, with its Err set if it was missing and has been made now.
func (s *setup) provide(ctx context.Context, adm *kadm.Client, name string, make bool, partitions int32, retention time.Duration) (kadm.TopicDetail, error) {
	md, err := adm.Metadata(ctx, name) // of one: it tells nothing of any if one is denied
	t := md.Topics[name]
	switch err := cmp.Or(err, t.Err); {
	case err == nil:
		return t, nil
	case isDenial(err):
		return t, fmt.Errorf("topic %s: %w: the right DESCRIBE on it is missing: %w", name, ErrDenied, err)
	case !make || !errors.Is(err, kerr.UnknownTopicOrPartition):
		return t, fmt.Errorf("metadata of topic %s: %w", name, err)
	}
	err = create(ctx, adm, s.cfg, name, partitions, retention, s.log)
	if isDenial(err) { // somebody else may make it
		err = fmt.Errorf("topic %s: %w, and %w: the right CREATE on it is missing: %w", name, t.Err, ErrDenied, err)
	}
	return t, err
}

// ErrDenied reports that we lack a right in Kafka.
var ErrDenied = errors.New("denied by Kafka")

func isDenial(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
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
	if err = cmp.Or(err, topic.Err); isDenial(err) {
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
