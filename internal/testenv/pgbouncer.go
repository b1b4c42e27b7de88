package testenv

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PgBouncer starts a PgBouncer in transaction mode, with two connections to the database of
// dsn, and returns the DSN for its clients.
func PgBouncer(t testing.TB, dsn string) string {
	t.Helper()
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), Addr(t)
	host, port, _ := net.SplitHostPort(addr)
	password, _ := server.User.Password()
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
`, server.Hostname(), portOr(server, "5432"), server.User.Username(), password, host, port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Geteuid() == 0 { // it refuses to be root
		args = []string{"-u", "nobody", config}
	}
	Program(t, "pgbouncer", args...)
	client := *server
	client.Host = addr
	err = poll(20*time.Second, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.String()
}
