//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// text is the report.
func (o *outcome) text() string {
	var b strings.Builder
	cfg := o.cfg
	seconds := o.produced.Seconds()
	fmt.Fprintf(&b, "%d sockets in %d processes, connected in %s, %.0f a second\n", cfg.sockets, cfg.processes,
		o.connect.Round(time.Millisecond), float64(cfg.sockets)/o.connect.Seconds())
	fmt.Fprintf(&b, "%d deliveries in %.1f s, %.0f a second\n", o.tally.Received, seconds, float64(o.tally.Received)/seconds)
	fmt.Fprintf(&b, "missing %d, twice %d, out of order %d, extra %d, gaps %d, closed %d, sockets that missed something %d\n",
		o.tally.Missing, o.tally.Twice, o.tally.Order, o.tally.Extra, o.tally.Gaps, o.tally.Closed, o.tally.Unserved)
	ms := func(q float64) float64 { return float64(o.latency.ValueAtQuantile(q)) / 1000 }
	fmt.Fprintf(&b, "latency from production to arrival, ms: p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n\n",
		ms(50), ms(90), ms(99), ms(99.9), float64(o.latency.Max())/1000)
	if cfg.away > 0 {
		fmt.Fprintf(&b, "cut off for %s: all back after %s, caught up after %s, %d events came again\n\n", cfg.away,
			o.storm.back.Round(time.Millisecond), o.storm.caught.Round(time.Millisecond), o.tally.Seam)
	}
	b.WriteString("| process | CPU | deliveries per CPU-second | RSS before | connected | end | per socket |\n|---|---|---|---|---|---|---|\n")
	const mib = 1 << 20
	for _, p := range o.parts {
		fmt.Fprintf(&b, "| %s | %.2f s | %.0f | %.1f MiB | %.1f MiB | %.1f MiB | %.2f KB |\n", p.name, p.cpu.Seconds(),
			o.perCPU(p.cpu), float64(p.idle)/mib, float64(p.full)/mib, float64(p.last)/mib,
			float64(p.full-p.idle)/1000/float64(cfg.sockets))
	}
	fmt.Fprintf(&b, "| this client | %.2f s | %.0f | | %.1f MiB | %.1f MiB | %.2f KB |\n", o.holders.CPU.Seconds(),
		o.perCPU(o.holders.CPU), float64(o.holding)/mib, float64(o.holders.RSS)/mib, float64(o.sockets)/1000/float64(cfg.sockets))
	return b.String()
}

// write keeps the report and the histogram.
func (o *outcome) write(text string) error {
	dir := filepath.Join(o.cfg.out, o.server)
	if err := os.WriteFile(filepath.Join(dir, "summary.md"), []byte(text), 0o644); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, "latency.hgrm"))
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = o.latency.PercentilesPrint(out, 5, 1000)
	return err
}

// ratios compares the gateways alone, and all processes together.
func ratios(cfg config, all []*outcome) string {
	var b strings.Builder
	b.WriteString("| server | sockets | connected a second | memory per idle socket | deliveries per CPU-second of the gateway | of all processes | latency p50 | p99 | missing, or closed |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, o := range all {
		gateway := o.gateways()
		n := float64(o.cfg.sockets)
		fmt.Fprintf(&b, "| %s | %d | %.0f | %.2f KB | %.0f | %.0f | %.1f ms | %.1f ms | %d, %d |\n", o.server, o.cfg.sockets, n/o.connect.Seconds(),
			float64(gateway.full-gateway.idle)/1000/n, o.perCPU(gateway.cpu), o.perCPU(o.cpu()),
			float64(o.latency.ValueAtQuantile(50))/1000, float64(o.latency.ValueAtQuantile(99))/1000, o.tally.Missing, o.tally.Closed)
	}
	if cfg.none {
		b.WriteString("\n| server | filters | CPU of the gateway per event | of all processes | events | extra |\n|---|---|---|---|---|---|\n")
		for _, o := range all {
			fmt.Fprintf(&b, "| %s | %d | %.0f µs | %.0f µs | %d | %d |\n", o.server, o.cfg.sockets,
				each(o.gateways().cpu, o.events), each(o.cpu(), o.events), o.events, o.tally.Extra)
		}
	}
	if cfg.away > 0 {
		b.WriteString("\n| server | all back after | had what was produced meanwhile after | CPU of the gateway for each that came back | of all processes | events missing | came again | closed |\n|---|---|---|---|---|---|---|---|\n")
		for _, o := range all {
			var gateways, sum time.Duration
			for i, d := range o.storm.cpu {
				if sum += d; o.parts[i].isGateway() {
					gateways += d
				}
			}
			caught := "never" // got nothing of what was produced meanwhile
			if o.storm.caught > 0 {
				caught = fmt.Sprintf("%.2f s", o.storm.caught.Seconds())
			}
			fmt.Fprintf(&b, "| %s | %.2f s | %s | %.0f µs | %.0f µs | %d | %d | %d |\n", o.server, o.storm.back.Seconds(), caught,
				each(gateways, o.cfg.sockets), each(sum, o.cfg.sockets), o.tally.Missing, o.tally.Seam, o.tally.Closed)
		}
	}
	return b.String()
}

func each(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }

func (p *part) isGateway() bool { return strings.HasPrefix(p.name, "gateway") }

// gateways is all of them together.
func (o *outcome) gateways() (sum part) {
	for _, p := range o.parts {
		if p.isGateway() {
			sum.idle, sum.full, sum.last, sum.cpu = sum.idle+p.idle, sum.full+p.full, sum.last+p.last, sum.cpu+p.cpu
		}
	}
	return sum
}

// cpu is what all processes of the server used.
func (o *outcome) cpu() (sum time.Duration) {
	for _, p := range o.parts {
		sum += p.cpu
	}
	return sum
}

func (o *outcome) perCPU(d time.Duration) float64 {
	return float64(o.tally.Received) / max(d.Seconds(), 0.01)
}
