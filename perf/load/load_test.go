//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScripts checks that each scenario has a script that says what it shows, and
// that there is no script without one.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../k6/*.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	var scripts []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".js")
		scripts = append(scripts, name)
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "// "+name+": ") {
			t.Errorf("%s does not begin with what it shows", f)
		}
		if !strings.Contains(string(text), "thresholds: ") {
			t.Errorf("%s has no thresholds", f)
		}
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	slices.Sort(names)
	if !slices.Equal(names, scripts) {
		t.Errorf("scenarios %q, scripts %q", names, scripts)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args, err string
	}{
		{"", ""},
		{"--scenario cliff --target ours,blocking,async --levels 10,50", ""},
		{"--scenario clif", "there are smoke, cliff"},
		{"--scenario smoke --target blocking", "the baseline can't do scenario smoke"},
		{"--scenario cliff --target oars", "there are ours, blocking, async"},
		{"--scenario cliff --levels 10,x", "want numbers from 1"},
		{"--scenario fanout --levels 10", "set --sockets"},
		{"--scenario fanout --hold 1s", "want at least 8s"},
		{"--scenario fanout --sockets -1", "not negative"},
	} {
		_, err := flags(strings.Fields(tt.args))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("load %s: %v; want %q", tt.args, err, tt.err)
		}
	}
}

func TestOK(t *testing.T) {
	kept, broken := map[string]condition{"x": {OK: true}}, map[string]condition{"x": {}}
	all := metric{Type: "rate", Values: map[string]float64{"passes": 9, "fails": 1}, Thresholds: kept}
	for _, tt := range []struct {
		name string
		r    result
		want bool
	}{
		{"all", result{sockets: 10, metrics: map[string]metric{"conn_ok": all}}, true},
		{"a socket was never judged", result{sockets: 11, metrics: map[string]metric{"conn_ok": all}}, false},
		{"nothing was measured", result{sockets: 1}, false},
		{"a threshold", result{sockets: 10, metrics: map[string]metric{"conn_ok": all, "missing": {Thresholds: broken}}}, false},
		{"a comparison", result{sockets: 10, metrics: map[string]metric{"conn_ok": all}, compared: []condition{{"p99", false}}}, false},
	} {
		if got := tt.r.ok(); got != tt.want {
			t.Errorf("%s: ok = %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		s    sample
		want string
	}{
		{sample{busy: 0.5, k6: 0.2, server: 0.2}, "to spare"},
		{sample{busy: 0.99, k6: 0.6, server: 0.3}, "k6 is the limit"},
		{sample{busy: 0.99, k6: 0.3, server: 0.6}, "used more of it than k6"},
		{sample{busy: 0.99, k6: 0.1, server: 0.1}, "was shared"},
	} {
		u := used{wall: time.Second, busiest: tt.s}
		if got := u.limit(); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.s, got, tt.want)
		}
	}
}
