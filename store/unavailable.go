package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// fail adds what we were doing, and ErrUnavailable if err comes from the state of
// PostgreSQL rather than from the request.
func fail(doing string, err error) error {
	flaw, isFlaw := errors.AsType[refused](err)
	switch {
	case err == nil:
		return nil
	case isFlaw:
		return flaw.error
	case unavailable(err):
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// refused is an error of the input, which is never ErrUnavailable.
type refused struct{ error }

func unavailable(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false // canceled by the caller
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*pgconn.ConnectError)) {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return passing(pg.Code)
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(net.Error))
}

// passing reports whether an SQLSTATE is a state that will pass, or that
// an operator can fix.
func passing(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", // connection
		"53", // out of memory, disk or connections
		"57", // shutting down, starting up, statement cancelled
		"58": // I/O error
		return true
	}
	switch code {
	case "25006", // read-only: a standby, or a failover under way
		"40001", "40P01", // serialization failure, deadlock
		"55P03",          // lock not available
		"42P01", "42703": // no table, no column: migrations are pending
		return true
	}
	return false
}
