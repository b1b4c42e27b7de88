//go:build linux

package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// figure is what one of them did in one round. CPU is that of its own process.
type figure struct {
	events    int
	took, cpu time.Duration
}

func (f figure) rate() float64 { return float64(f.events) / f.took.Seconds() }
func (f figure) perCPU() float64 {
	return float64(f.events) / max(f.cpu, 10*time.Millisecond).Seconds()
}

// Names of what is measured, as they stand in the table.
const (
	producerBare = "Kafka's own producer (Java)"
	producerOurs = "`eventstream producer`"
	consumerBare = "Kafka's own consumer (Java)"
	consumerLoop = "bare franz-go consumer"
	filterNone   = "`eventstream filter`, no match"
	xaddLoop     = "bare XADD of the lanes' entries"
	filterTen    = "`eventstream filter`, ten matches"
	xreadLoop    = "bare XREAD of the lanes"
	readerOurs   = "`eventstream gateway`, reading the lanes"
)

// row is one of them, and what it is a fraction of: names of others.
type row struct {
	name   string
	limits []string
}

// rows are in the table's order. An event's way through the filter service begins as
// with the consumer, and ends as with XADD if it matches.
var rows = []row{
	{producerBare, nil},
	{producerOurs, []string{producerBare}},
	{consumerBare, nil},
	{consumerLoop, nil},
	{filterNone, []string{consumerLoop}},
	{xaddLoop, nil},
	{filterTen, []string{consumerLoop, xaddLoop}},
	{xreadLoop, nil},
	{readerOurs, []string{xreadLoop}},
}

// table has the figures of all rounds, by name.
type table struct {
	figures map[string][]figure
	entry   int // bytes of a lane's entry on average
}

func newTable() *table { return &table{figures: make(map[string][]figure)} }

func (t *table) add(name string, f figure) { t.figures[name] = append(t.figures[name], f) }

// markdown writes the medians of all rounds. A fraction is the median of those within
// each round, of the limit that allows least.
func (t *table) markdown(cfg config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d CPUs; %d events in each of %d rounds, %d filters, lane entries of %.1f KiB on average.\n\n",
		runtime.NumCPU(), cfg.events, cfg.rounds, cfg.filters, float64(t.entry)/1024)
	b.WriteString("| | events a second | per CPU-second of the process | of its limit | of its limit, by CPU |\n|---|--:|--:|--:|--:|\n")
	for _, r := range rows {
		of := t.figures[r.name]
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %s | %s |\n", r.name, median(of, figure.rate), median(of, figure.perCPU),
			t.fraction(r, figure.rate), t.fraction(r, figure.perCPU))
	}
	return b.String()
}

func (t *table) fraction(r row, value func(figure) float64) string {
	least := 0.0
	for _, limit := range r.limits {
		bare := t.figures[limit]
		if len(bare) == 0 {
			continue
		}
		var parts []float64
		for i, f := range t.figures[r.name] {
			parts = append(parts, value(f)/value(bare[i]))
		}
		least = max(least, middle(parts))
	}
	if least == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", least)
}

func median(of []figure, value func(figure) float64) float64 {
	var all []float64
	for _, f := range of {
		all = append(all, value(f))
	}
	return middle(all)
}

func middle(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
