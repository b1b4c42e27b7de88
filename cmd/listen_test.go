package cmd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/wire"
)

// TestListenTellsOfGaps has a gateway with nothing but gaps.
func TestListenTellsOfGaps(t *testing.T) {
	t.Parallel()
	many := make([]wire.Missing, 12)
	for p := range many {
		many[p] = wire.Missing{Partition: int32(p), From: 10, To: 12}
	}
	asked := make(chan url.Values, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		asked <- r.URL.Query()
		for _, m := range [][]byte{
			wire.AppendHello(nil, "ada", "c1", false, 25),
			wire.AppendGap(nil, "", "c2", wire.GapLimit, []wire.Missing{{Partition: 3, From: 100, To: 250}, {Partition: 5, From: 7, To: 8}}),
			wire.AppendGap(nil, "c2", "c3", wire.GapOtherTopic, nil),
			wire.AppendGap(nil, "c3", "c4", "eaten_by_the_dog", many),
		} {
			if err := ws.Write(r.Context(), websocket.MessageText, m); err != nil {
				t.Error(err)
			}
		}
		ws.Read(r.Context()) // until it goes
	}))
	defer srv.Close()
	p := &pipeline{t: t, env: append(os.Environ(), "NO_COLOR=1", "EVENTSTREAM_LOG_FORMAT=text")}
	pr := p.start("listen", "--url", srv.URL, "--since", "1h", "--durable", "ada")
	for _, said := range []string{
		`replay_limit: they are older, or more, than the operator lets be replayed`,
		`what matched among 151 events: 3-100 to 3-249, 5-7 to 5-7`,
		`other_topic: the topic was deleted and made again`,
		`not known which`,
		`reason=eaten_by_the_dog`,
		`what matched among 24 events: 0-10 to 0-11, 1-10 to 1-11, 2-10 to 2-11, 3-10 to 3-11, 4-10 to 4-11, 5-10 to 5-11, 6-10 to 6-11, 7-10 to 7-11, 4 more partitions`,
	} {
		pr.says(said, 20*time.Second)
	}
	if q := <-asked; !strings.HasPrefix(q.Get("since"), "1h0m0") || q.Get("durable") != "true" || q.Get("subscriber_id") != "ada" {
		t.Errorf("asked for %v, want since, durable and the subscriber", q)
	}
	if code := pr.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	pr.says("to go on from what is acknowledged: --durable", time.Second)
}

// TestListenDurable stops a durable listener, and starts another one without a cursor.
func TestListenDurable(t *testing.T) {
	t.Parallel()
	t.Run("at once", func(t *testing.T) {
		testListenDurable(t, func(*pipeline, *process) {})
	})
	t.Run("after all but PostgreSQL and Kafka was lost", func(t *testing.T) {
		testListenDurable(t, func(p *pipeline, gateway *process) {
			p.redis.Do("FLUSHALL")
			gateway.kill()
			gateway.restart()
		})
	})
}

func testListenDurable(t *testing.T, meanwhile func(*pipeline, *process)) {
	p := newPipeline(t)
	api := p.service("api")
	matcher := p.service("filter")
	gateway := p.service("gateway", "--filter-url", "http://"+matcher.addr)
	p.addFilter(filter.Spec{SubscriberID: "ada/1", EventTypes: []string{"purchase"}})
	prod := p.producer()
	send := func(names ...string) {
		for _, name := range names {
			p.send(prod, parseSource(t, fmt.Appendf(nil, `{"event_type":"purchase","event_id":"%s","user_id":"u"}`, name)))
		}
	}
	acked := func() (code int, events int64) {
		code, body := read(t, api, "/subscribers/ada%2F1/ack")
		return code, ackedEvents(t, body)
	}
	if code, _ := acked(); code != http.StatusNotFound {
		t.Errorf("before the first durable connect: %d", code)
	}

	first := p.start("listen", "--url", gateway.addr, "--durable", "ada/1")
	first.says("connected", 20*time.Second)
	code, began := acked()
	if code != http.StatusOK {
		t.Errorf("after the first durable connect: %d", code)
	}
	send("one")
	for try, deadline := 0, time.Now().Add(40*time.Second); ; try++ { // a busy client gets a cursor every second
		send(fmt.Sprint("more", try))
		first.says(fmt.Sprintf(`"event_id":"more%d"`, try), 20*time.Second)
		if _, now := acked(); now > began {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing acknowledged after %d events", try)
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing acknowledged after %d events", try)
		}
	}
	if code := first.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	send("late")
	meanwhile(p, gateway)
	send("latest")
	second := p.start("listen", "--url", gateway.addr, "--durable", "ada/1")
	second.says(`"event_id":"latest"`, 20*time.Second)
	printed := second.out.String()
	for _, want := range []string{"resumed", `"event_id":"late"`} {
		if !strings.Contains(printed, want) {
			t.Errorf("the second one has not printed %s:\n%s", want, printed)
		}
	}
	for _, extra := range []string{`"event_id":"one"`, "missing"} {
		if strings.Contains(printed, extra) {
			t.Errorf("the second one has printed %s:\n%s", extra, printed)
		}
	}
}

// ackedEvents returns how many events of the topic lie before what is
// acknowledged in the API's answer, 0 if that is none.
func ackedEvents(t *testing.T, body string) (n int64) {
	t.Helper()
	var a struct {
		Cursor string
		Lag    struct{ Offsets *int64 }
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if a.Cursor == "" {
		return 0
	}
	c, err := event.ParseCursor(a.Cursor)
	if err != nil || a.Lag.Offsets == nil {
		t.Fatalf("%s: %v; want a cursor and a lag", body, err)
	}
	for _, next := range c.Next {
		n += next
	}
	return n
}

// read returns what a service answers.
func read(t *testing.T, pr *process, path string) (code int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + pr.addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
