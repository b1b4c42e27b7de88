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

// gate passes calls to PostgreSQL, and refuses them at once while PostgreSQL is known
// not to answer: otherwise each call would wait for its own timeout. If a call gets no
// answer, the gate opens a connection of its own. If that fails too, PostgreSQL is away
// until a connection succeeds. One goroutine tries, however many calls wait.
type gate struct {
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

func newGate(pool *pgxpool.Pool) *gate {
	g := &gate{pool: pool, cfg: pool.Config().ConnConfig}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// Close waits for the calls under way.
func (g *gate) Close() {
	g.mu.Lock() // no probe starts after this
	g.stop()
	g.mu.Unlock()
	g.wait.Wait()
	g.pool.Close()
}

// enter fails while PostgreSQL is known to be away.
func (g *gate) enter() error {
	if why := g.away.Load(); why != nil {
		return *why
	}
	return nil
}

// saw records the result of a call.
func (g *gate) saw(err error) {
	if err == nil && g.probing.Load() {
		g.answered.Store(true)
	}
	if err == nil || !unanswered(err) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probing.Load() || time.Since(g.probed) < time.Second || g.ctx.Err() != nil {
		return
	}
	g.probing.Store(true)
	g.wait.Go(g.watch)
}

// unanswered reports whether err may come from a server that is down.
func unanswered(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08") // shutting down, starting up; or a proxy reports it
	}
	return unavailable(err)
}

// watch tries to connect until that succeeds.
func (g *gate) watch() {
	for n := 0; ; n++ {
		g.answered.Store(false)
		err := g.probe(n%3 == 0)
		if err == nil || g.answered.Load() || g.ctx.Err() != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.away.Store(nil)
			g.probing.Store(false)
			g.probed = time.Now()
			return
		}
		err = fmt.Errorf("%w: %w", ErrAway, err)
		if g.away.Swap(&err) == nil {
			g.pool.Reset() // open connections are dead, and some would never report it
		}
		select {
		case <-g.ctx.Done():
		case <-time.After(probeEvery):
		}
	}
}

// probe opens a connection. A server that refuses it for another reason is up: each
// call then gets that reason, and open connections still work.
func (g *gate) probe(patient bool) error {
	cfg := g.cfg.Copy()
	if !patient {
		cfg.ConnectTimeout = min(cfg.ConnectTimeout, probeBrief)
	}
	conn, err := pgx.ConnectConfig(g.ctx, cfg)
	if err != nil {
		if unanswered(err) {
			return err
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(g.ctx, pingTimeout)
	defer cancel()
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// The methods of pgxpool.Pool.

func (g *gate) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := g.enter(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := g.pool.Exec(ctx, sql, args...)
	g.saw(err)
	return tag, err
}

func (g *gate) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := g.enter(); err != nil {
		return nil, err
	}
	rows, err := g.pool.Query(ctx, sql, args...)
	g.saw(err)
	return rows, err
}

func (g *gate) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := g.enter(); err != nil {
		return failedRow{err}
	}
	return seenRow{g.pool.QueryRow(ctx, sql, args...), g}
}

func (g *gate) Begin(ctx context.Context) (pgx.Tx, error) { return g.BeginTx(ctx, pgx.TxOptions{}) }

func (g *gate) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	if err := g.enter(); err != nil {
		return nil, err
	}
	tx, err := g.pool.BeginTx(ctx, opts)
	g.saw(err)
	return tx, err
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// seenRow reports the query's result to the gate.
type seenRow struct {
	row  pgx.Row
	gate *gate
}

func (r seenRow) Scan(into ...any) error {
	err := r.row.Scan(into...)
	r.gate.saw(err)
	return err
}
