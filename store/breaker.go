package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// breaker is a circuit breaker: it passes calls to PostgreSQL, and refuses them at once
// while PostgreSQL is known not to answer. Otherwise each call would wait for its own
// timeout. If a call gets no answer, the breaker opens a connection of its own. If that
// fails too, PostgreSQL is away until a connection succeeds. One goroutine tries, however
// many calls wait.
type breaker struct {
	pool *pgxpool.Pool
	cfg  *pgx.ConnConfig
	away atomic.Pointer[error] // why PostgreSQL is away; nil if not known to be
	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup

	probing  atomic.Bool // changed under mu
	answered atomic.Bool // a call was answered during a probe

	mu     sync.Mutex
	probed time.Time // when a probe last succeeded
}

const (
	probeEvery = 500 * time.Millisecond // while PostgreSQL is away; otherwise at least a second apart
	// probeBrief is the timeout of most attempts to connect: an attempt that was started
	// before the network healed can take long to notice. Each third has the usual timeout.
	probeBrief = time.Second
	// pingTimeout is for the ping of an idle pooled connection.
	pingTimeout = 2 * time.Second
)

// ErrAway reports a call that was not tried, because PostgreSQL is known not to answer.
// The store's methods return it wrapped in ErrUnavailable.
var ErrAway = errors.New("PostgreSQL does not answer")

func newBreaker(pool *pgxpool.Pool) *breaker {
	b := &breaker{pool: pool, cfg: pool.Config().ConnConfig}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Close waits for the calls under way.
func (b *breaker) Close() {
	b.mu.Lock() // no probe starts after this
	b.stop()
	b.mu.Unlock()
	b.wait.Wait()
	b.pool.Close()
}

// enter fails while PostgreSQL is known to be away.
func (b *breaker) enter() error {
	if why := b.away.Load(); why != nil {
		return *why
	}
	return nil
}

// saw records the result of a call.
func (b *breaker) saw(err error) {
	if err == nil && b.probing.Load() {
		b.answered.Store(true)
	}
	if err == nil || !unanswered(err) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.probing.Load() || time.Since(b.probed) < time.Second || b.ctx.Err() != nil {
		return
	}
	b.probing.Store(true)
	b.wait.Go(b.watch)
}

// unanswered reports whether err may come from a server that is down.
func unanswered(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08") // shutting down, starting up; or a proxy reports it
	}
	return unavailable(err)
}

// watch tries to connect until that succeeds.
func (b *breaker) watch() {
	for n := 0; ; n++ {
		b.answered.Store(false)
		err := b.probe(n%3 == 0)
		if err == nil || b.answered.Load() || b.ctx.Err() != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.away.Store(nil)
			b.probing.Store(false)
			b.probed = time.Now()
			return
		}
		err = fmt.Errorf("%w: %w", ErrAway, err)
		if b.away.Swap(&err) == nil {
			b.pool.Reset() // open connections are dead, and some would never report it
		}
		select {
		case <-b.ctx.Done():
		case <-time.After(probeEvery):
		}
	}
}

// probe opens a connection. A server that refuses it for another reason is up: each
// call then gets that reason, and open connections still work.
func (b *breaker) probe(patient bool) error {
	cfg := b.cfg.Copy()
	if !patient {
		cfg.ConnectTimeout = min(cfg.ConnectTimeout, probeBrief)
	}
	conn, err := pgx.ConnectConfig(b.ctx, cfg)
	if err != nil {
		if unanswered(err) {
			return err
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(b.ctx, pingTimeout)
	defer cancel()
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// The methods of pgxpool.Pool.

func (b *breaker) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := b.enter(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := b.pool.Exec(ctx, sql, args...)
	b.saw(err)
	return tag, err
}

func (b *breaker) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	rows, err := b.pool.Query(ctx, sql, args...)
	b.saw(err)
	return rows, err
}

func (b *breaker) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := b.enter(); err != nil {
		return failedRow{err}
	}
	return seenRow{b.pool.QueryRow(ctx, sql, args...), b}
}

func (b *breaker) Begin(ctx context.Context) (pgx.Tx, error) { return b.BeginTx(ctx, pgx.TxOptions{}) }

func (b *breaker) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	tx, err := b.pool.BeginTx(ctx, opts)
	b.saw(err)
	return tx, err
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// seenRow reports the query's result to the breaker.
type seenRow struct {
	row     pgx.Row
	breaker *breaker
}

func (r seenRow) Scan(into ...any) error {
	err := r.row.Scan(into...)
	r.breaker.saw(err)
	return err
}
