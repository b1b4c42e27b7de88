package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"eventstream/filter"
)

const (
	batchRows  = 100 // rows that one goroutine takes at a time
	maxReaders = 8   // enough to decode even complex rows faster than PostgreSQL sends them
)

// Queries for every.
const (
	allFilters = `select id, revision, spec, false from filters where deleted_at is null`
	anyFilters = `select id, revision, spec, deleted_at is not null from filters where `
)

// every passes the rows of a query to each, in no order and without holding them all in
// memory. The columns are id, revision, spec, and whether the filter is deleted. While
// each handles a batch, the next ones are read and decoded.
func every(ctx context.Context, tx pgx.Tx, each func(Change) error, query string, args ...any) error {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	ctx, stop := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	defer g.Wait()
	defer stop()
	r := reading{rows: rows, decoded: make(chan []Change)}
	r.readers.Store(int32(min(runtime.GOMAXPROCS(0), maxReaders)))
	for range r.readers.Load() {
		g.Go(func() error { return r.run(ctx) })
	}
	for batch := range r.decoded {
		for _, c := range batch {
			if err := each(c); err != nil {
				return err
			}
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return rows.Err()
}

// reading is one query, whose rows several goroutines take in turns.
type reading struct {
	decoded chan []Change // closed by the last reader
	readers atomic.Int32

	mu   sync.Mutex
	rows pgx.Rows
}

// rawRow is a row before decoding.
type rawRow struct {
	id       pgtype.UUID
	revision int64
	spec     []byte
	deleted  bool
}

// run decodes rows until there are no more.
func (r *reading) run(ctx context.Context) error {
	defer func() {
		if r.readers.Add(-1) == 0 {
			close(r.decoded)
		}
	}()
	raw := make([]rawRow, batchRows)
	var batch, last []Change // two are enough: when the receiver takes one, it is done with the one before
	for ; ; batch, last = last, batch {
		n, err := r.take(raw)
		if n == 0 || err != nil {
			return err
		}
		batch = batch[:0]
		for i := range n {
			c, err := raw[i].change()
			if err != nil {
				return err
			}
			batch = append(batch, c)
		}
		select {
		case r.decoded <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take fills raw with the next rows, and reuses its memory.
func (r *reading) take(raw []rawRow) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(raw) && r.rows.Next() {
		row := &raw[n]
		var spec pgtype.DriverBytes // valid until the next call of Next
		if err := r.rows.Scan(&row.id, &row.revision, &spec, &row.deleted); err != nil {
			return n, err
		}
		row.spec = append(row.spec[:0], spec...)
		n++
	}
	return n, nil
}

func (r *rawRow) change() (Change, error) {
	id := filter.ID(uuid.UUID(r.id.Bytes).String())
	spec, err := decode(id, r.spec)
	return Change{Filter: filter.Filter{ID: id, Revision: r.revision, Spec: spec}, Deleted: r.deleted}, err
}

// decode decodes a stored Spec. The error is filter.ErrUnknown if this version does not
// know a condition.
func decode(id filter.ID, spec []byte) (filter.Spec, error) {
	s, err := filter.DecodeStored(spec)
	if err != nil {
		return filter.Spec{}, fmt.Errorf("spec of filter %s: %w", id, err)
	}
	return s, nil
}
