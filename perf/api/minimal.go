//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/lane"
)

// minimal is the least that does the API's work: net/http and pgx as they come, the
// same validation, statements and word to the filter service. It has no keys, limits,
// metrics, deadlines or problems that say what is wrong.
type minimal struct {
	db    *pgxpool.Pool
	lanes *lane.Redis
}

// The environment tells the process that serves it where things are.
const (
	listenKey   = "MINIMAL_LISTEN"
	postgresKey = "MINIMAL_POSTGRES"
	redisKey    = "MINIMAL_REDIS"
)

func serveMinimal() error {
	db, err := pgxpool.New(context.Background(), os.Getenv(postgresKey))
	if err != nil {
		return err
	}
	lanes, err := lane.NewRedis(lane.RedisConfig{Addr: os.Getenv(redisKey)}, slog.Default())
	if err != nil {
		return err
	}
	m := &minimal{db, lanes}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /filters": m.create, "GET /filters/{id}": m.read, "POST /filters:import": m.load,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	ln, err := net.Listen("tcp", os.Getenv(listenKey))
	if err != nil {
		return err
	}
	return http.Serve(ln, mux)
}

func (m *minimal) create(w http.ResponseWriter, r *http.Request) error {
	body := http.MaxBytesReader(w, r.Body, 512<<10)
	var raw json.RawMessage
	if err := json.NewDecoder(body).Decode(&raw); err != nil {
		return err
	}
	spec, err := filter.ParseSpec(raw, expr.Translate)
	if err != nil {
		return err
	}
	stored, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	var f filter.Filter
	err = m.db.QueryRow(r.Context(), `
		insert into filters (id, subscriber_id, spec, revision) values ($1, $2, $3, 1)
		returning id, revision, spec`, uuid.Must(uuid.NewV7()).String(), spec.SubscriberID, stored).Scan(&f.ID, &f.Revision, &f.Spec)
	if err != nil {
		return err
	}
	if _, err := m.lanes.PublishFilter(r.Context(), filter.Change{Filter: f}); err != nil {
		return err
	}
	w.Header().Set("Location", "/filters/"+string(f.ID))
	return writeJSON(w, http.StatusCreated, f)
}

func (m *minimal) read(w http.ResponseWriter, r *http.Request) error {
	var f filter.Filter
	err := m.db.QueryRow(r.Context(), `
		select id, revision, spec from filters where id = $1 and deleted_at is null`, r.PathValue("id")).Scan(&f.ID, &f.Revision, &f.Spec)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, f)
}

func (m *minimal) load(w http.ResponseWriter, r *http.Request) error {
	lines := bufio.NewScanner(r.Body)
	var bad error
	row := func() ([]any, error) {
		if !lines.Scan() {
			return nil, lines.Err()
		}
		spec, err := filter.ParseSpec(lines.Bytes(), expr.Translate)
		if err != nil {
			bad = err
			return nil, err
		}
		stored, err := json.Marshal(spec)
		return []any{uuid.Must(uuid.NewV7()), spec.SubscriberID, stored, int64(1)}, err
	}
	n, err := m.db.CopyFrom(r.Context(), pgx.Identifier{"filters"}, []string{"id", "subscriber_id", "spec", "revision"}, pgx.CopyFromFunc(row))
	if err = errors.Join(bad, err); err != nil {
		return err
	}
	if _, err := m.lanes.PublishBulk(r.Context()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]int64{"imported": n})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}
