package topic

import (
	"context"
	"errors"
	"fmt"
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

// reachability is a hook that tells when a broker can't be reached any more, or refuses
// us, and when that is over.
type reachability struct {
	log    *slog.Logger
	access Access

	mu   sync.Mutex
	down map[string]*outage // by address; none of brokers that are up
}

// outage is a broker that can't be reached.
type outage struct {
	since, said, tried time.Time
	err                error // of the last attempt
}

var _ kgo.HookBrokerConnect = (*reachability)(nil)

// OnBrokerConnect is called after every attempt to connect.
func (r *reachability) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) {
		return // we ended it
	}
	if refused := r.access.refusal(err); refused != nil {
		err = refused
	}
	now, broker := time.Now(), net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	since, say := r.note(broker, now, err)
	switch {
	case !say:
	case errors.Is(err, ErrRefused):
		r.log.Error("Kafka can't be used; retrying", "broker", broker, "for", now.Sub(since).Round(time.Second), "err", err)
	case err != nil:
		r.log.Warn("can't reach Kafka; retrying", "broker", broker, "access", r.access.String(), "for", now.Sub(since).Round(time.Second), "err", err)
	default:
		r.log.Info("Kafka can be reached again", "broker", broker, "after", now.Sub(since).Round(time.Millisecond))
	}
}

// err returns why a broker could not be reached within the last minute, or nil. That one
// refuses us goes first.
func (r *reachability) err() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for broker, o := range r.down {
		recent := time.Since(o.tried) < time.Minute // one that was tried no more may be gone
		if recent && (err == nil || errors.Is(o.err, ErrRefused)) {
			err = fmt.Errorf("broker %s: %w", broker, o.err)
		}
	}
	return err
}

// note keeps the outcome of an attempt. It tells since when the broker was down, and
// whether that is to be logged: at its begin and end and once a minute.
func (r *reachability) note(broker string, now time.Time, err error) (since time.Time, say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.down[broker]
	if err == nil {
		if o == nil {
			return now, false
		}
		delete(r.down, broker)
		return o.since, true
	}
	if o == nil {
		if r.down == nil {
			r.down = make(map[string]*outage)
		}
		o = &outage{since: now}
		r.down[broker] = o
	}
	// That it is refused is news to who knows that it could not be reached.
	news := errors.Is(err, ErrRefused) && !errors.Is(o.err, ErrRefused)
	o.tried, o.err = now, err
	if news || now.Sub(o.said) >= time.Minute {
		o.said = now
		return o.since, true
	}
	return o.since, false
}
