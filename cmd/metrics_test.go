package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"eventstream/internal/testenv"
)

// predecessor has the predecessor's names, and ours of the same.
var predecessor = map[string][][2]string{
	"filter": {
		{"events_read_total", "events_read_total"}, {"events_matched_total", "events_matched_total"}, {"events_routed_total", "events_routed_total"},
		{"redis_failures_total", "redis_failures_total"}, {"active_streams_count", "active_subscribers"},
	},
	"gateway": {{"active_websocket_connections", "connections"}, {"events_sent_total", "events_sent_total"}},
}

// TestMetrics: all that services tell has its service's prefix, and the names that
// Prometheus wants; what the predecessor told is there under its names, too.
func TestMetrics(t *testing.T) {
	p := newPipeline(t)
	for _, name := range []string{"api", "filter", "gateway"} {
		s := p.service(name)
		if resp, err := http.Get("http://" + s.addr + "/ws"); err == nil { // refused, and counted
			resp.Body.Close()
		}
		families := lint(t, s.addr, name)
		if n := len(families); n < 10 {
			t.Errorf("%s has %d metrics of its own", name, n)
		}
		for _, names := range predecessor[name] {
			testenv.Eventually(t, 30*time.Second, func() error {
				old, ours := metric(t, s.addr, names[0]), metric(t, s.addr, "eventstream_"+name+"_"+names[1])
				if old == "" || old != ours {
					return fmt.Errorf("%s is %q, ours of the same %q", names[0], old, ours)
				}
				return nil
			})
		}
	}
}

// lint checks the names of a service's metrics, as promtool check metrics does, and
// returns those of its own.
func lint(t *testing.T, addr, service string) (own []string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	if err != nil {
		t.Fatalf("%s: %v\n%s", service, err, page)
	}
	for _, p := range problems {
		if p.Metric != "active_streams_count" { // the predecessor's
			t.Errorf("%s: %s: %s", service, p.Metric, p.Text)
		}
	}
	for line := range strings.Lines(string(page)) {
		name, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		switch {
		case strings.HasPrefix(name, "eventstream_"+service+"_"):
			own = append(own, name)
		case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"), name == "eventstream_build_info":
		case slices.ContainsFunc(predecessor[service], func(names [2]string) bool { return names[0] == name }):
		default:
			t.Errorf("%s has a metric %s; want eventstream_%s_ before it", service, name, service)
		}
	}
	return own
}
