package delivery

import (
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"eventstream/auth"
	"eventstream/wire"
)

// fullSocket takes bytes that never leave.
type fullSocket struct{ bytes, closes int }

func (f *fullSocket) Write(b []byte) (int, error) { f.bytes += len(b); return len(b), nil }
func (f *fullSocket) Close() error                { f.closes++; return nil }

// Answers have one bound, whoever writes them: a client that does not read is cut off there.
func TestUnreadAnswersOfTheWorker(t *testing.T) {
	cursor := strings.Repeat("c", 200)
	for _, tt := range []struct {
		name    string
		command func(*Client) command
	}{
		{"acked", func(c *Client) command { return answered{&c.conn, wire.AppendAcked(nil, cursor, "0-1")} }},
		{"token", func(c *Client) command {
			return &renewed{&c.conn, auth.Claims{Subject: "user_1", Expires: time.Unix(1<<31, 0)}}
		}},
		{"no token", func(c *Client) command { return answered{&c.conn, []byte(`{"type":"error","code":"bad_token"}`)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			c, _ := b.join(nil)
			sock := &fullSocket{}
			c.sock.Attach(sock)
			b.openConn(c)
			before := sock.bytes
			command := tt.command(c)
			for range 10_000 {
				command.apply(c.worker)
			}
			if got := sock.bytes - before; got > maxAnswers*5/4 || got < maxAnswers/2 {
				t.Errorf("%d bytes wait for a client that does not read, want about %d", got, maxAnswers)
			}
			if sock.closes == 0 {
				t.Error("it is not closed")
			}
			var m dto.Metric
			if b.metrics.unread.Write(&m); m.GetCounter().GetValue() != 1 {
				t.Errorf("counted %v such clients", m.GetCounter().GetValue())
			}
		})
	}
}

// Who stays within the rate stays.
func TestMessageRateAllows(t *testing.T) {
	c := newBench(t, Config{MessageRate: 10}).NewClient(Entry{})
	at := time.Unix(1000, 0)
	for range 100 {
		if !c.allowed(at) {
			t.Fatal("a hundred at once are too many")
		}
	}
	for range 1000 {
		at = at.Add(100 * time.Millisecond)
		if !c.allowed(at) {
			t.Fatal("ten a second are too many")
		}
	}
	if c.allowed(at) {
		t.Error("one more passes")
	}
}
