package testenv

import (
	"context"
	"testing"

	"eventstream/internal/check/cluster"
)

// PostgresServer is a private PostgreSQL that a test may kill and put back to an earlier
// state. Data survives Kill and Restart.
type PostgresServer struct {
	DSN string // of its database; stays the same

	t      testing.TB
	server *cluster.Postgres
}

// PrivatePostgres starts a PostgreSQL for this test. Where its programs are not
// installed, as beside containers, the test is skipped.
func PrivatePostgres(t testing.TB) *PostgresServer {
	t.Helper()
	bin, err := cluster.FindPostgres()
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	return privatePostgres(t)(cluster.StartPostgres(ctx, bin))
}

// privatePostgres has a server that was started end with the test.
func privatePostgres(t testing.TB) func(*cluster.Postgres, error) *PostgresServer {
	return func(server *cluster.Postgres, err error) *PostgresServer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return &PostgresServer{DSN: server.URL, t: t, server: server}
	}
}

// Standby starts a server that follows s, until it is told to be a primary by pg_promote.
func (s *PostgresServer) Standby() *PostgresServer {
	s.t.Helper()
	return privatePostgres(s.t)(s.server.Standby(s.t.Context()))
}

// Kill ends the server as a crash would.
func (s *PostgresServer) Kill() { s.server.Kill() }

// Stop ends the server in order, and all connections with it.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	s.must(s.server.Stop())
}

// Restart starts the server again after Kill or Stop.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	s.must(s.server.Start(s.t.Context()))
}

// Backup makes a base backup, and returns what puts it in place of the data folder of the
// server, which must not run then.
func (s *PostgresServer) Backup() (restore func()) {
	s.t.Helper()
	put, err := s.server.Backup(s.t.Context())
	s.must(err)
	return func() {
		s.t.Helper()
		s.must(put(s.t.Context()))
	}
}

func (s *PostgresServer) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
