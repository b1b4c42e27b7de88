package cmd_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
)

// TestCheckStops: a check ends soon when it is interrupted, whatever it is doing,
// fails, and leaves nothing behind.
func TestCheckStops(t *testing.T) {
	testenv.Redis(t, testenv.RedisOptions{}) // or skip
	db, err := pgx.Connect(t.Context(), testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(t.Context()) })
	for i, when := range []string{"seed ", " kind="} {
		t.Run(fmt.Sprint("after ", []string{"it began", "a fault"}[i]), func(t *testing.T) {
			seed := fmt.Sprint(time.Now().UnixNano())
			p := &pipeline{t: t, env: append(os.Environ(),
				"EVENTSTREAM_KAFKA="+strings.Join(testenv.Kafka(t), ","), "EVENTSTREAM_POSTGRES="+testenv.Postgres(t))}
			c := p.start("check", "--seed", seed, "--duration", "1h", "--clients", "10", "--log-format", "text", "--dir", t.TempDir())
			c.says(when, time.Minute)
			c.cmd.Process.Signal([]os.Signal{syscall.SIGINT, syscall.SIGTERM}[i])
			if code := c.wait(30 * time.Second); code != 1 || !strings.Contains(c.out.String(), "check was stopped") {
				t.Errorf("exit code %d; want 1, and the words that it was stopped", code)
			}
			var left int
			if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'check\\_' || $1 || '\\_%'", seed).Scan(&left); err != nil || left > 0 {
				t.Errorf("%d databases are left, %v", left, err)
			}
		})
	}
}
