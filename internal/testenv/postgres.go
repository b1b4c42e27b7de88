package testenv

import (
	"context"
	"crypto/rand"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the address of a new, empty database on the shared server. It
// is dropped after the test, whoever may still be connected.
func Postgres(t testing.TB) string {
	t.Helper()
	dsn, err := url.Parse(shared(t, "EVENTSTREAM_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	demandListener(t, "PostgreSQL", net.JoinHostPort(dsn.Hostname(), portOr(dsn, "5432")))
	name := "test_" + strings.ToLower(rand.Text()[:16])
	// Nobody may be connected to a template while it is copied; template0 allows nobody.
	if err := execSQL(dsn.String(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execSQL(dsn.String(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	own := *dsn
	own.Path = "/" + name
	return own.String()
}

func portOr(u *url.URL, port string) string {
	if p := u.Port(); p != "" {
		return p
	}
	return port
}

func execSQL(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
