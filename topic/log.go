package topic

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
)

// clientLog passes on what the Kafka client logs, for debugging only: single
// requests, retries, and errors that it also returns. What an operator has to
// know of those we say ourselves, once.
func clientLog(log *slog.Logger) kgo.Logger { return kslog.New(slog.New(quiet{log.Handler()})) }

type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, quieter(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quieter(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(as []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(as)} }
func (q quiet) WithGroup(name string) slog.Handler    { return quiet{q.Handler.WithGroup(name)} }

func quieter(l slog.Level) slog.Level {
	if l >= slog.LevelInfo {
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

// reachability is a hook that tells when a broker can't be reached any more, and
// when that is over.
type reachability struct {
	log *slog.Logger

	mu   sync.Mutex
	down map[string]*outage // by address; none of brokers that are up
}

// outage is a broker that can't be reached.
type outage struct{ since, said time.Time }

var _ kgo.HookBrokerConnect = (*reachability)(nil)

// OnBrokerConnect is called after every attempt to connect.
func (r *reachability) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) {
		return // we ended it
	}
	now, broker := time.Now(), net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	since, say := r.note(broker, now, err)
	switch {
	case !say:
	case err != nil:
		r.log.Warn("can't reach Kafka; retrying", "broker", broker, "for", now.Sub(since).Round(time.Second), "err", err)
	default:
		r.log.Info("Kafka can be reached again", "broker", broker, "after", now.Sub(since).Round(time.Millisecond))
	}
}

// note keeps the outcome of an attempt. It tells since when the broker was down, and
// whether that is to be logged: at its begin and end and once a minute.
func (r *reachability) note(broker string, now time.Time, err error) (since time.Time, say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.down[broker]
	switch {
	case err == nil && o == nil:
		return now, false
	case err == nil:
		delete(r.down, broker)
		return o.since, true
	case o == nil:
		if r.down == nil {
			r.down = make(map[string]*outage)
		}
		r.down[broker] = &outage{now, now}
		return now, true
	case now.Sub(o.said) >= time.Minute:
		o.said = now
		return o.since, true
	}
	return o.since, false
}
