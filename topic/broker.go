package topic

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedConfig says how the broker inside the process is set up. The zero
// value is a broker in memory on any free port of the loopback interface.
type EmbeddedConfig struct {
	Dir  string // where the records are kept; in memory if empty
	Host string // 127.0.0.1 if empty
	Port int    // any free one if zero

	// Topic is made unless there is no name.
	Topic          string
	Partitions     int32         // 12 if zero
	Retention      time.Duration // 24h if zero
	RetentionBytes int64         // for each partition; 64 MiB if zero
}

// Broker is a Kafka broker inside the process, for tests and for a run with
// nothing to install. It speaks the protocol, but is neither replicated nor made
// for production.
type Broker struct {
	cluster *kfake.Cluster
}

// StartBroker starts a broker, and makes its topic and dead letter topic.
func StartBroker(cfg EmbeddedConfig) (*Broker, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(cfg.Port),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return net.Listen(network, net.JoinHostPort(cmp.Or(cfg.Host, "127.0.0.1"), port))
		}),
		// How often retention is applied; it would be once an hour.
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "5000"}),
	}
	if cfg.Dir != "" {
		opts = append(opts, kfake.DataDir(cfg.Dir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start the embedded Kafka broker on %s: %w",
			net.JoinHostPort(cmp.Or(cfg.Host, "127.0.0.1"), strconv.Itoa(cfg.Port)), err)
	}
	b := &Broker{cluster}
	if cfg.Topic == "" {
		return b, nil
	}
	if err := b.makeTopic(cfg); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Broker) makeTopic(cfg EmbeddedConfig) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Ensure(ctx, Config{
		Brokers:        []string{b.Addr()},
		Topic:          cfg.Topic,
		Partitions:     cfg.Partitions,
		Retention:      cfg.Retention,
		RetentionBytes: cmp.Or(cfg.RetentionBytes, 64<<20),
		SegmentBytes:   4 << 20, // space is freed by whole segments
	}, slog.New(slog.DiscardHandler))
	return err
}

// Addr returns host:port of the broker.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Close stops the broker.
func (b *Broker) Close() { b.cluster.Close() }
