//go:build linux

package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// markdown is the report on all targets.
func markdown(cfg config, results []*result) string {
	var b strings.Builder
	c := &cfg.scenario
	fmt.Fprintf(&b, "# %s\n\n%d CPUs; %g events a second, %s; held for %s", c.name, runtime.NumCPU(), c.rate, recipients(c), c.hold)
	if c.sockets > 0 {
		fmt.Fprintf(&b, "; %d sockets", c.sockets)
	}
	b.WriteString(".\n")
	for _, r := range results {
		fmt.Fprintf(&b, "\n## %s\n", r.target)
		r.levels(&b)
		r.totals(&b)
		r.usage(&b)
		r.thresholds(&b)
	}
	return b.String()
}

func recipients(c *scenario) string {
	if c.each {
		return "each for one socket"
	}
	return "each for all sockets"
}

// levels writes a line for each value of the tag "level".
func (r *result) levels(b *strings.Builder) {
	names := make(map[string]bool)
	for name := range r.metrics {
		if _, tag, ok := strings.Cut(name, "{level:"); ok {
			names[strings.TrimSuffix(tag, "}")] = true
		}
	}
	if len(names) == 0 {
		return
	}
	order := slices.SortedFunc(maps.Keys(names), func(a, c string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(c)
		return x - y
	})
	b.WriteString("\n| level | connected | served | connect p99 | latency p50 | p99 | missing |\n|---|---|---|---|---|---|---|\n")
	for _, l := range order {
		at := func(name, value string) string { return r.value(fmt.Sprintf("%s{level:%s}", name, l), value) }
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", l, at("conn_ok", "rate"), at("served", "rate"),
			at("connect_ms", "p(99)"), at("e2e_ms", "med"), at("e2e_ms", "p(99)"), at("missing", "count"))
	}
}

// value formats one value of a metric; a dash if it was never measured.
func (r *result) value(name, value string) string {
	m, ok := r.metrics[name]
	v, there := m.Values[value]
	switch {
	case !ok || !there || m.Type == "trend" && m.Values["count"] == 0:
		return "-"
	case m.Type == "gauge":
		return fmt.Sprintf("%.2f", v)
	case m.Type == "rate":
		return fmt.Sprintf("%.0f%%", 100*v)
	case m.Type == "trend" && value != "count":
		return fmt.Sprintf("%.1f ms", v)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// totals writes the metrics of the whole run.
func (r *result) totals(b *strings.Builder) {
	b.WriteString("\n| | |\n|---|---|\n")
	for _, row := range []struct{ text, metric, value string }{
		{"connected", "conn_ok", "rate"}, {"served", "served", "rate"},
		{"connect p99", "connect_ms", "p(99)"}, {"latency p50", "e2e_ms", "med"}, {"latency p99", "e2e_ms", "p(99)"}, {"latency p99.9", "e2e_ms", "p(99.9)"},
		{"deliveries", "received", "count"}, {"missing", "missing", "count"}, {"twice", "twice", "count"},
		{"again after a resume", "seam", "count"}, {"late", "late", "count"}, {"closed early", "closed_early", "count"},
		{"gateway's memory, last quarter to the second", "gateway_rss_growth", "value"},
		{"requests", "http_reqs", "count"}, {"requests p99", "http_req_duration", "p(99)"}, {"checks", "checks", "rate"},
	} {
		if v := r.value(row.metric, row.value); v != "-" {
			fmt.Fprintf(b, "| %s | %s |\n", row.text, v)
		}
	}
}

// usage writes what everybody used, and who was the limit.
func (r *result) usage(b *strings.Builder) {
	fmt.Fprintf(b, "\n| process | CPU | of one CPU | memory | peak |\n|---|---|---|---|---|\n")
	for _, p := range r.used.parts {
		fmt.Fprintf(b, "| %s | %.2f s | %.0f%% | %.0f MiB | %.0f MiB |\n", p.name, p.cpu.Seconds(),
			100*p.cpu.Seconds()/max(r.used.wall.Seconds(), 1), float64(p.rss)/(1<<20), float64(p.peakRSS)/(1<<20))
	}
	s := r.used.busiest
	fmt.Fprintf(b, "\nIn the busiest 5 s the machine was busy to %.0f%%: k6 %.0f%%, the server %.0f%%, others the rest. So %s.\n",
		100*s.busy, 100*s.k6, 100*s.server, r.used.limit())
}

// thresholds writes those that were not kept.
func (r *result) thresholds(b *strings.Builder) {
	kept := 0
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(r.metrics)) {
		for text, t := range r.metrics[name].Thresholds {
			if t.OK {
				kept++
			} else {
				failed = append(failed, fmt.Sprintf("- **not kept**: `%s` %s", name, text))
			}
		}
	}
	for _, c := range r.compared {
		if c.OK {
			kept++
			failed = append(failed, "- kept: "+c.Text)
		} else {
			failed = append(failed, "- **not kept**: "+c.Text)
		}
	}
	fmt.Fprintf(b, "\n%d thresholds were kept.\n", kept)
	if n := r.judged(); n != r.sockets {
		failed = append(failed, fmt.Sprintf("- **not kept**: %d of %d sockets were judged; k6.log may say why", n, r.sockets))
	}
	for _, f := range failed {
		b.WriteString(f + "\n")
	}
}
