package topic

import (
	"context"
	"errors"
	"log/slog"
	"net"
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

// reachability is a hook that tells when no broker can be reached any more, and
// when that is over.
type reachability struct {
	log     *slog.Logger
	brokers []string

	mu   sync.Mutex
	down time.Time // since when; zero while up
	said time.Time
}

var _ kgo.HookBrokerConnect = (*reachability)(nil)

// OnBrokerConnect is called after every attempt to connect.
func (r *reachability) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) {
		return // we ended it
	}
	now := time.Now()
	since, say := r.note(now, err)
	switch {
	case !say:
	case err != nil:
		r.log.Warn("can't reach Kafka; retrying", "brokers", r.brokers, "for", now.Sub(since).Round(time.Second), "err", err)
	default:
		r.log.Info("Kafka can be reached again", "brokers", r.brokers, "after", now.Sub(since).Round(time.Millisecond))
	}
}

// note keeps the outcome of an attempt. It tells since when Kafka was down, and
// whether that is to be logged: at its begin and end and once a minute.
func (r *reachability) note(now time.Time, err error) (since time.Time, say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since = r.down
	switch {
	case err == nil:
		r.down, r.said = time.Time{}, time.Time{}
		return since, !since.IsZero()
	case since.IsZero():
		r.down, r.said = now, now
		return now, true
	case now.Sub(r.said) >= time.Minute:
		r.said = now
		return since, true
	}
	return since, false
}
