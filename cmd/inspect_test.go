package cmd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
)

type inspection struct {
	lane.Inspection
	err error
}

func (i *inspection) CheckConfig(context.Context) (lane.Inspection, error) {
	return i.Inspection, i.err
}

// What is found is told once in the log, for as long as it lasts in /readyz, and taken back.
func TestInspector(t *testing.T) {
	var logs bytes.Buffer
	r := &inspection{}
	i := newInspector("redis", r, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logs, nil)))
	for _, tt := range []struct {
		name  string
		found inspection
		want  string // in /readyz
		logs  int
	}{
		{"well", inspection{}, "", 0},
		{"evicts", inspection{Inspection: lane.Inspection{Troubles: []error{lane.ErrEviction}}}, "noeviction", 1},
		{"still", inspection{Inspection: lane.Inspection{Troubles: []error{lane.ErrEviction}}}, "noeviction", 1},
		{"can't be asked", inspection{err: errors.New("timeout")}, "noeviction", 1},
		{"well again", inspection{}, "", 2},
		{"clock ahead", inspection{Inspection: lane.Inspection{Ahead: time.Minute}}, "1m0s apart", 3},
		{"clock behind", inspection{Inspection: lane.Inspection{Ahead: -time.Minute}}, "1m0s apart", 3},
		{"clock well", inspection{Inspection: lane.Inspection{Ahead: time.Second}}, "", 4},
	} {
		*r = tt.found
		if err := i.look(t.Context()); !errors.Is(err, tt.found.err) {
			t.Errorf("%s: look = %v", tt.name, err)
		}
		err := i.check(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (!ops.IsDegraded(err) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: check = %v, want degraded with %q", tt.name, err, tt.want)
		}
		if got := strings.Count(logs.String(), "\n"); got != tt.logs {
			t.Errorf("%s: %d lines in the log, want %d:\n%s", tt.name, got, tt.logs, logs.String())
		}
		var m dto.Metric
		if err := i.ahead.Write(&m); err != nil || tt.found.err == nil && m.Gauge.GetValue() != tt.found.Ahead.Seconds() {
			t.Errorf("%s: clock ahead by %v, %v", tt.name, m.Gauge.GetValue(), err)
		}
	}
}

// A policy that is set later is noticed, and that it was set back.
func TestInspectorRedis(t *testing.T) {
	server := testenv.Redis(t)
	r, err := lane.NewRedis(lane.RedisConfig{Addr: server.Addr}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	i := newInspector("redis", r, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for _, policy := range []string{"noeviction", "allkeys-lru", "noeviction"} {
		server.Do("CONFIG", "SET", "maxmemory-policy", policy)
		if err := i.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := i.check(t.Context()); errors.Is(err, lane.ErrEviction) != (policy != "noeviction") {
			t.Errorf("%s: check = %v", policy, err)
		}
	}
}
