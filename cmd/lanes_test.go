package cmd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/wire"
)

// TestLanes has an operator pass over an event that waits, with a client connected, and looks
// at what the client, a replay and the operator are told.
func TestLanes(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.service("filter")
	p.service("api", "--filter-url", "http://"+f.addr)
	p.addFilter(filter.Spec{SubscriberID: "all", MatchAll: true})
	l := p.listen(p.service("gateway"), "all")
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.topic.Brokers...), kgo.DefaultProduceTopic(p.topic.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	send := func(n int) {
		t.Helper()
		for range n {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Partition: 1, Value: []byte(`{"event_type":"purchase"}`)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(3)
	l.wait(3, time.Minute)
	f.stop()
	send(5) // 3 to 7 wait

	for _, tt := range []struct {
		flags string
		code  int
		says  string
	}{
		{"", 2, "--partition, --from and --to are needed"},
		{"--partition 1 --from 5 --to 5", 2, "--from 5 is not below --to 5"},
		{"--partition 9 --from 4 --to 6", 1, "there is no partition 9"},
		{"--partition 1 --from 4 --to 9", 1, "--to 9 is beyond the partition's end: the highest allowed is 8"},
		{"--partition 1 --from 2 --to 4", 1, "the lane of shard 0 is at 3, and what is below was matched"},
		{"--partition 1 --from 4 --to 6", 0, "nothing was changed; --yes does it"},
		{"--partition 1 --from 4 --to 6 --note poisoned --yes", 0, "partition 1, shard 0: noted"},
		{"--partition 1 --from 5 --to 7 --yes", 1, "the range overlaps with one that is passed over already: 4 to 5"},
	} {
		out, errs := p.output(tt.code, append([]string{"lanes", "skip"}, strings.Fields(tt.flags)...)...)
		if !strings.Contains(out+errs, tt.says) {
			t.Errorf("lanes skip %s printed %q and %q, want %q", tt.flags, out, errs, tt.says)
		}
	}
	table, _ := p.output(0, "lanes")
	for _, want := range []string{"1          0      3         0      0            8          5    -     4 to 5", "lanes skip --partition 1 --from 4 --to 6  (poisoned)"} {
		if !strings.Contains(table, want) {
			t.Errorf("lanes printed\n%s\nwant %q", table, want)
		}
	}

	f.restart()
	l.wait(6, time.Minute) // 3, 6 and 7
	l.mu.Lock()
	var ids []string
	for _, e := range l.events {
		ids = append(ids, e.ID.String())
	}
	gaps := fmt.Sprintf("%+v", l.gaps)
	told := len(l.gaps) == 1 && l.gaps[0].Reason == wire.GapSkipped && l.gaps[0].Missing[0] == (wire.Missing{Partition: 1, From: 4, To: 6})
	l.mu.Unlock()
	if got, want := strings.Join(ids, " "), "1-0 1-1 1-2 1-3 1-6 1-7"; got != want || !told {
		t.Errorf("the client got %s, and gaps %s; want %s, and one of 1-4 to 1-5", got, gaps, want)
	}

	var v struct {
		Topic string
		Lanes []struct {
			Partition     int32
			Position, Lag *int64
			Skipped       []struct{ From, To int64 }
		}
		Operations []struct{ By, What, Note string }
	}
	testenv.Eventually(t, time.Minute, func() error {
		text, _ := p.output(0, "lanes", "show", "--json")
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if len(v.Lanes) != 4 || v.Lanes[1].Position == nil || *v.Lanes[1].Position != 8 || v.Lanes[1].Lag == nil || *v.Lanes[1].Lag != 0 ||
			len(v.Lanes[1].Skipped) != 1 || v.Lanes[1].Skipped[0].To != 6 || len(v.Operations) != 1 || v.Operations[0].Note != "poisoned" || v.Topic != p.topic.Topic {
			return fmt.Errorf("lanes show: %s", text)
		}
		return nil
	})

	resp, err := http.Get("http://" + p.api + "/subscribers/all/events?since=1h")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if lines := strings.Count(string(body), "\n"); err != nil || lines != 7 || !strings.Contains(string(body), `{"gap":{"partition":1,"from":4,"to":6,"reason":"skipped"}}`) {
		t.Errorf("a pull gave %v, %d lines, want 6 events and a gap:\n%s", err, lines, body)
	}
}
