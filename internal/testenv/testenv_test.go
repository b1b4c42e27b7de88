package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestRedisKeepsWhatItPromises(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  RedisOptions
		end  func(*RedisServer)
		want string
	}{
		{"append only, killed", RedisOptions{AppendOnly: true}, (*RedisServer).Kill, "$1"},
		{"append only, stopped", RedisOptions{AppendOnly: true}, (*RedisServer).Stop, "$1"},
		{"append only, running", RedisOptions{AppendOnly: true}, func(*RedisServer) {}, "$1"},
		{"memory, killed", RedisOptions{}, (*RedisServer).Kill, "$-1"},
		{"memory, stopped", RedisOptions{}, (*RedisServer).Stop, "$-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Redis(t, tt.opt)
			if got := ask(t, s.Addr, "SET k v"); got != "+OK" {
				t.Fatalf("SET = %q, want +OK", got)
			}
			tt.end(s)
			s.Restart()
			if got := ask(t, s.Addr, "GET k"); got != tt.want {
				t.Errorf("GET = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRedisRefusesWhenFull(t *testing.T) {
	s := Redis(t, RedisOptions{MaxMemory: "1b"})
	if got := ask(t, s.Addr, "SET k v"); !strings.HasPrefix(got, "-OOM") {
		t.Errorf("SET = %q, want -OOM", got)
	}
}

func TestRedisPause(t *testing.T) {
	s := Redis(t)
	s.Pause()
	if err := s.ping(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	Eventually(t, 10*time.Second, s.ping)
	s.Pause() // cleanup must end it all the same
}

func TestRedisEndsWithItsTest(t *testing.T) {
	var addr string
	t.Run("inner", func(t *testing.T) { addr = Redis(t).Addr })
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening after its test")
	}
}

func TestTopicIsDeleted(t *testing.T) {
	ctx := t.Context()
	admin, err := kadm.NewOptClient(kgo.SeedBrokers(Kafka(t)...))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var topic string
	t.Run("inner: käse", func(t *testing.T) {
		topic = Topic(t)
		if topic == Topic(t) {
			t.Error("the same name twice")
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	})
	Eventually(t, 10*time.Second, func() error {
		topics, err := admin.ListTopics(ctx, topic)
		if err == nil && topics.Has(topic) {
			err = errors.New("not deleted")
		}
		return err
	})
}

func TestPostgresIsOneForEachTest(t *testing.T) {
	ctx := t.Context()
	var dsn string
	t.Run("inner", func(t *testing.T) {
		dsn = Postgres(t)
		for _, dsn := range []string{dsn, Postgres(t)} {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				t.Fatal(err)
			}
			// It stays open: cleanup must drop the database all the same.
			t.Cleanup(func() { conn.Close(context.Background()) })
			if _, err := conn.Exec(ctx, "CREATE TABLE t ()"); err != nil {
				t.Error(err)
			}
		}
	})
	if conn, err := pgx.Connect(ctx, dsn); err == nil {
		conn.Close(ctx)
		t.Error("the database is still there after its test")
	}
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct{ services, want string }{
		{"", "skip"},
		{"required", "fatal"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Setenv("EVENTSTREAM_TEST_SERVICES", tt.services)
			t.Setenv("EVENTSTREAM_KAFKA", "127.0.0.1:1")
			r := record(t, func(t testing.TB) { Kafka(t) })
			if r.how != tt.want || !strings.Contains(r.text, "make services") {
				t.Errorf("%s with %q, want %s that names make services", r.how, r.text, tt.want)
			}
		})
	}
}

func TestEventually(t *testing.T) {
	calls := 0
	check := func() error {
		if calls++; calls < 3 {
			return fmt.Errorf("call %d", calls)
		}
		return nil
	}
	Eventually(t, 10*time.Second, check)
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
	r := record(t, func(t testing.TB) {
		Eventually(t, 0, func() error { return errors.New("never so") })
	})
	if r.how != "fatal" || !strings.Contains(r.text, "never so") {
		t.Errorf("%s with %q, want fatal with the last error", r.how, r.text)
	}
}

func TestData(t *testing.T) {
	t.Setenv("EVENTSTREAM_TEST_DATA", os.Args[0])
	if path, ok := Data(t); path != os.Args[0] || !ok {
		t.Errorf("Data = %s, %t, want %s, true", path, ok, os.Args[0])
	}
	t.Setenv("EVENTSTREAM_TEST_DATA", t.TempDir()+"/none")
	if path, ok := Data(t); ok {
		t.Errorf("Data = %s, true, want false", path)
	}
}

// ask sends one command and returns the first line of the answer.
func ask(t *testing.T, addr, command string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s\r\n", command)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// recorder is a testing.TB that remembers how a test would have ended.
type recorder struct {
	testing.TB
	how, text string
}

// record runs f as a test of its own would.
func record(t *testing.T, f func(testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != r {
				panic(p)
			}
		}()
		f(r)
	}()
	return r
}

func (r *recorder) Helper()                           {}
func (r *recorder) Fatal(args ...any)                 { r.end("fatal", fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) { r.end("fatal", fmt.Sprintf(format, args...)) }
func (r *recorder) Skip(args ...any)                  { r.end("skip", fmt.Sprint(args...)) }

func (r *recorder) end(how, text string) {
	r.how, r.text = how, text
	panic(r)
}
