package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/store"
	"eventstream/wire"
)

// replays serves replays as a filter service does, by what answer says.
func replays(t *testing.T, answer func(context.Context, replay.Request, *replay.Writer) error) *replay.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("POST /replay", replay.Handler(answer, nil, slog.New(slog.DiscardHandler)))
	mux.Handle("POST /explain", replay.LiveHandler(func(_ context.Context, q replay.Question) (replay.Live, error) {
		known := replay.LiveFilter{ID: "01890a5d-ac96-774b-bcce-b302099a8057", Revision: 3, Matches: true}
		return replay.Live{Shard: "0/1", Seats: 1, Addressed: true, Filters: []replay.LiveFilter{known}, More: true, Waits: "for " + q.Subscriber}, nil
	}, nil, slog.New(slog.DiscardHandler)))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c, err := replay.NewClient([]string{srv.URL}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func packed(data ...string) []byte {
	var p lane.Packer
	for i, d := range data {
		p.Add(int64(10+i), 1000, []byte(d), nil)
	}
	return p.Bytes()
}

// told writes a stream with events and gaps, without its end.
func told(w *replay.Writer) error {
	return errors.Join(
		w.Begin([]int64{5, 0}, []int64{20, 30}, []replay.Lost{{Partition: 0, From: 2, To: 5, Reason: wire.GapTrimmed}}),
		w.Batch(replay.Batch{Partition: 0, Next: 11, Entry: packed(`{"event_type":"a"}`, "{\n\"event_type\" :\r\n\"b\"}")}),
		w.Batch(replay.Batch{Partition: 0, Next: 20}),
		w.Batch(replay.Batch{Partition: 1, Next: 30, Lost: &replay.Lost{Partition: 1, From: 0, To: 30, Reason: wire.GapLimit}}))
}

const toldLines = `{"gap":{"partition":0,"from":2,"to":5,"reason":"trimmed"}}
{"id":"0-10","ts":1000,"data":{"event_type":"a"}}
{"id":"0-11","ts":1000,"data":{ "event_type" :  "b"}}
{"gap":{"partition":1,"from":0,"to":30,"reason":"replay_limit"}}
`

// pull asks for events, and returns the answer with what could be read of it.
func (s *service) pull(query string) (resp *http.Response, body string, err error) {
	s.t.Helper()
	resp, err = http.Get(s.url + "/subscribers/" + strings.Replace(query, "?", "/events?", 1))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestEvents(t *testing.T) {
	var asked replay.Request
	s := startAll(t, api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), replays(t, func(_ context.Context, r replay.Request, w *replay.Writer) error {
		asked = r
		return errors.Join(told(w), w.End())
	}))
	begin := time.Now()
	resp, body, err := s.pull("ann%2Fa?since=1h")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" || body != toldLines || err != nil {
		t.Errorf("got %d %s, %v:\n%s\nwant 200, application/x-ndjson:\n%s", resp.StatusCode, resp.Header, err, body, toldLines)
	}
	if ago := begin.Sub(asked.Since) - time.Hour; asked.Subscriber != "ann/a" || ago > time.Second || ago < -time.Minute || !asked.Until.IsZero() {
		t.Errorf("asked for %+v, want ann/a since an hour ago", asked)
	}
	if _, _, err := s.pull("ann?since=2026-01-02T03:04:05+02:00&until=2026-01-03T00:00:00Z"); err != nil {
		t.Error(err)
	}
	if want := time.Date(2026, 1, 2, 1, 4, 5, 0, time.UTC); !asked.Since.Equal(want) || !asked.Until.Equal(time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("asked for %+v, want since %v", asked, want)
	}
}

// A stream that breaks off does not look whole.
func TestEventsBreakOff(t *testing.T) {
	s := startAll(t, api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), replays(t, func(_ context.Context, _ replay.Request, w *replay.Writer) error {
		return errors.Join(told(w), errors.New("Kafka is gone"))
	}))
	if resp, body, err := s.pull("ann?since=1h"); resp.StatusCode != 200 || body != toldLines || err == nil {
		t.Errorf("got %d, %q and %v, want an error after the lines", resp.StatusCode, body, err)
	}
}

func TestEventsRefused(t *testing.T) {
	busy := replays(t, func(context.Context, replay.Request, *replay.Writer) error {
		return replay.Busy(7*time.Second, errors.New("too many"))
	})
	s := startAll(t, api.Config{}, &store.Memory{}, &publisher{}, lane.NewMemory(), busy)
	for _, tt := range []struct {
		query  string
		status int
		want   string
	}{
		{"ann?since=1h", 503, "replay-unavailable"},
		{"ann?", 400, "since, required"},
		{"ann?since=", 400, "want a duration such as 1h"},
		{"ann?since=yesterday", 400, "want a duration such as 1h"},
		{"ann?since=-1h", 400, "want a duration before now"},
		{"ann?since=2926-01-02T03:04:05Z", 400, "is in the future"},
		{"ann?since=1h&since=2h", 400, "given twice"},
		{"ann?since=1h&until=2h", 400, "until, is before since"},
		{"ann?since=1h&limit=5", 400, "unknown; allowed are since, until"},
		{"a%20b?since=1h", 400, "bad-subscriber"},
	} {
		resp, body, err := s.pull(tt.query)
		plain := strings.NewReplacer(`"field":"?`, "", `","detail":"`, ", ").Replace(body)
		if resp.StatusCode != tt.status || !strings.Contains(plain, tt.want) || err != nil {
			t.Errorf("%s: got %d %s, want %d, %s", tt.query, resp.StatusCode, plain, tt.status, tt.want)
		}
		if tt.status == 503 && resp.Header.Get("Retry-After") != "7" {
			t.Errorf("%s: Retry-After %q, want 7", tt.query, resp.Header.Get("Retry-After"))
		}
	}
}

// endless writes until its asker is gone.
func endless(ctx context.Context, _ replay.Request, w *replay.Writer) error {
	if err := w.Begin([]int64{0}, []int64{1 << 40}, nil); err != nil {
		return err
	}
	entry := packed(fmt.Sprintf(`{"event_type":"a","pad":%q}`, strings.Repeat("x", 10_000)))
	for next := int64(11); ctx.Err() == nil; next++ {
		if err := w.Batch(replay.Batch{Partition: 0, Next: next, Entry: entry}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// An end cuts streams, also those whose client doesn't read, and they look cut.
func TestEventsStop(t *testing.T) {
	s := startAll(t, api.Config{StopTimeout: time.Second, MaxStreams: 2, StreamsEach: 2}, &store.Memory{}, &publisher{}, lane.NewMemory(), replays(t, endless))
	var bodies []*bufio.Reader
	for range 2 {
		resp, err := http.Get(s.url + "/subscribers/ann/events?since=1h")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		bodies = append(bodies, bufio.NewReader(resp.Body))
		if _, err := bodies[len(bodies)-1].ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if resp, body, _ := s.pull("ann?since=1h"); resp.StatusCode != 503 || !strings.Contains(body, "2 streams are under way") {
		t.Errorf("got %d %s, want 503", resp.StatusCode, body)
	}
	s.stop()
	if _, err := io.Copy(io.Discard, bodies[0]); err == nil {
		t.Error("a stream that was cut looks whole")
	}
	if err := <-s.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
}
