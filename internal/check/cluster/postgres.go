package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Database is a database of our own on a server that others may use, too.
type Database struct {
	name  string
	admin *url.URL
}

func newDatabase(ctx context.Context, dsn, name string) (*Database, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		return nil, errors.New("PostgreSQL has to be given as a URL, postgres://user:password@host:port/database")
	}
	d := &Database{name: name, admin: u}
	// Nobody may be connected to a template while it is copied; template0 allows nobody.
	return d, d.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0")
}

// server returns host:port of the server.
func (d *Database) server() string {
	port := d.admin.Port()
	if port == "" {
		port = "5432"
	}
	return net.JoinHostPort(d.admin.Hostname(), port)
}

// through returns the URL of the database by way of a proxy.
func (d *Database) through(addr string) string {
	own := *d.admin
	own.Host, own.Path = addr, "/"+d.name
	return own.String()
}

// URL returns the URL of the database.
func (d *Database) URL() string { return d.through(d.server()) }

// Terminate ends all sessions of the database.
func (d *Database) Terminate(ctx context.Context) error {
	return d.exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+d.name+"'")
}

func (d *Database) drop(ctx context.Context) error {
	return d.exec(ctx, "DROP DATABASE IF EXISTS "+d.name+" WITH (FORCE)")
}

func (d *Database) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, d.admin.String())
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func deleteTopics(ctx context.Context, brokers []string, topics ...string) error {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	deleted, err := client.DeleteTopics(ctx, topics...)
	for _, d := range deleted.Sorted() {
		if !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			err = errors.Join(err, d.Err)
		}
	}
	if err != nil {
		return fmt.Errorf("delete topics %q: %w", topics, err)
	}
	return nil
}
