package pipeline

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/lane"
)

// TestCostlyEventsAreTold: an event that takes much work is matched as all others
// are, counted, and told of once a minute, with whose filters they are.
func TestCostlyEventsAreTold(t *testing.T) {
	r := newRoutes(lane.Shard{})
	r.setFilter(filter.Change{Filter: filter.Filter{ID: "few", Revision: 1, Spec: filter.Spec{SubscriberID: "bob", EventTypes: []string{"x"}}}})
	for i := range 100 {
		part := fmt.Sprint("needle ", i)
		spec := filter.Spec{SubscriberID: "ada", MatchAll: true, Where: filter.Where{"note": {Contains: &part}}}
		r.setFilter(filter.Change{Filter: filter.Filter{ID: filter.ID(part), Revision: 1, Spec: spec}})
	}
	r.join(1, []lane.Seated{{Seat: 1, Subscriber: "ada"}, {Seat: 2, Subscriber: "bob"}})
	r.publish()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	s := &Service{routes: r, metrics: newMetrics(prometheus.NewRegistry(), r, new(atomic.Int64)), log: logger}
	w := &worker{Service: s, log: logger}
	for offset, note := range []string{"small needle 7", strings.Repeat("hay ", 400_000) + "needle 7", strings.Repeat("hay ", 400_000)} {
		w.packer.Reset()
		w.add(t.Context(), r.view(), &kgo.Record{Offset: int64(offset), Value: fmt.Appendf(nil, `{"event_type":"x","note":%q}`, note)})
		if w.packer.Count() != 1 {
			t.Fatalf("offset %d: %d events packed, want it to be", offset, w.packer.Count())
		}
	}
	if got := counterValue(t, s.metrics.costly); got != 2 {
		t.Errorf("%v costly events, want 2", got)
	}
	w.metrics.tell(&w.resolver.matcher)
	if got := counterValue(t, s.metrics.digests); got != 2 {
		t.Errorf("%v digests, want 2", got)
	}
	if n := strings.Count(log.String(), "subscriber=ada"); n != 1 || !strings.Contains(log.String(), "conditions=100") {
		t.Errorf("the log names ada %d times, want once, with 100 conditions:\n%s", n, log.String())
	}
	if got := counterValue(t, s.metrics.routed); got != 5 { // ada does not get the last one
		t.Errorf("%v recipients, want 5", got)
	}
}
