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
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config holds what an operator may set. The zero value works for a broker on
// this machine.
type Config struct {
	Brokers  []string // host:port; 127.0.0.1:9092 if empty
	Topic    string   // "events" if empty; dead letters go to <topic>.dlq
	Group    string   // "eventstream-filter" if empty
	ClientID string   // "eventstream" if empty

	NoCreate      bool   // wait for the topic, instead of making it and its dead letter topic
	NoDeadLetters bool   // none are written: the dead letter topic is neither made nor looked for
	DeadLetters   string // the dead letter topic; the topic's name and .dlq if empty

	// Used only to make the topic; one that exists is left as it is.
	Partitions     int32         // 12 if zero
	Replication    int16         // the broker's default if zero or -1
	Retention      time.Duration // 24h if zero
	RetentionBytes int64         // for each partition; no limit if zero
	SegmentBytes   int           // the broker's default if zero

	// BatchBytes is how large the batches that the producer makes may be, and so a record:
	// MaxMessage, if a topic takes more than a million bytes, which it is if zero.
	BatchBytes int

	Uncommitted      bool          // read also what transactions have not committed, or have aborted
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
func (cfg Config) DLQ() string { return cmp.Or(cfg.DeadLetters, cmp.Or(cfg.Topic, "events")+".dlq") }

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
