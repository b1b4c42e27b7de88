//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// latency is how late events came.
type latency struct {
	events, missing int
	p50, p99, max   time.Duration
}

func (r *result) latency(kind int) (l latency) {
	v := r.victim
	v.mu.Lock()
	defer v.mu.Unlock()
	var took []time.Duration
	for _, st := range r.steps {
		if st.kind != kind {
			continue
		}
		for seq := st.sent[0]; seq <= st.sent[1]; seq++ {
			l.events++
			if seq > len(v.at) || v.at[seq-1] == 0 {
				l.missing++
				continue
			}
			took = append(took, v.took[seq-1])
		}
	}
	if n := len(took); n > 0 {
		slices.Sort(took)
		l.p50, l.p99, l.max = took[n/2], took[n*99/100], took[n-1]
	}
	return l
}

// text is the report.
func (r *result) text() string {
	var b strings.Builder
	f := r.flapped[flapping]
	fmt.Fprintf(&b, "%d of %d connects of %d subscribers by %s in %s, %.0f a second, through %d gateways; refused %v, failed %d%s\n\n", f.Connected, r.cfg.Connects,
		r.cfg.Subscribers, r.cfg.How, f.Took.Round(100*time.Millisecond), float64(f.Connected)/f.Took.Seconds(), r.cfg.gateways, f.Refused, f.Failed, first(f.First))
	b.WriteString("| | time | events | missing | p50 | p99 | max |\n|---|--:|--:|--:|--:|--:|--:|\n")
	names := [kinds]string{"quiet", "others flap at services of their own", "others flap", "their seats end"}
	for k, name := range names {
		if l := r.latency(k); l.events > 0 {
			fmt.Fprintf(&b, "| %s | %.0f s | %d | %d | %s | %s | %s |\n", name, r.seconds(k), l.events, l.missing, ms(l.p50), ms(l.p99), ms(l.max))
		}
	}
	b.WriteByte('\n')
	for _, k := range []int{quiet, elsewhere} {
		if l := r.latency(k); l.p99 > 0 {
			fmt.Fprintf(&b, "while others flap, p50 is %.2f and p99 %.2f times that of: %s\n", ratio(r.latency(flapping).p50, l.p50), ratio(r.latency(flapping).p99, l.p99), names[k])
		}
	}
	r.processes(&b)
	r.recipients(&b)
	return b.String()
}

// processes reports what each process used. What a connect costs is what it used more
// than when all was quiet, for one connection.
func (r *result) processes(b *strings.Builder) {
	b.WriteString("\n| process | CPU of a connect | CPU a second, quiet | others flap | seats end | RSS before | after the flapping | at the end |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	const mib = 1 << 20
	begin, end := r.steps[0].from, r.steps[len(r.steps)-1]
	for i, p := range r.parts {
		calm, busy := r.cpu(i, quiet), r.cpu(i, flapping)
		fmt.Fprintf(b, "| %s | %.0f µs | %.0f ms | %.0f ms | %.0f ms | %d MiB | %d MiB | %d MiB |\n", p.Name, 1e6*(busy-calm)*r.seconds(flapping)/float64(max(r.flapped[flapping].Connected, 1)),
			1e3*calm, 1e3*busy, 1e3*r.cpu(i, after), begin.used[i].RSS/mib, end.from.used[i].RSS/mib, end.to.used[i].RSS/mib)
	}
}

// recipients reports what an event takes in the lanes beside its own bytes.
func (r *result) recipients(b *strings.Builder) {
	b.WriteString("\n| event | recipients, quiet | others flap | seats end | most | bytes of the lane beside its own, quiet | others flap | seats end |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for i, name := range []string{"of the one measured", "of those that flap"} {
		var all entries
		var seats, bytes []string
		for _, kind := range []int{quiet, flapping, after} {
			var e entries
			for _, st := range r.steps {
				if found := st.entries[r.types[i]]; found != nil && st.kind == kind {
					e.add(*found)
				}
			}
			all.add(e)
			seats, bytes = append(seats, each(e.seats, e.events)), append(bytes, each(e.bytes-e.data, e.events))
		}
		fmt.Fprintf(b, "| %s | %s | %d | %s |\n", name, strings.Join(seats, " | "), all.most, strings.Join(bytes, " | "))
	}
}

// each is what one of n has of all; nothing, if there are none.
func each(all, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(all)/float64(n))
}

// cpu is the CPU-seconds that a process used in a second of the steps of a kind.
func (r *result) cpu(part, kind int) float64 {
	var sum time.Duration
	for _, st := range r.steps {
		if st.kind == kind {
			sum += st.to.used[part].CPU - st.from.used[part].CPU
		}
	}
	return sum.Seconds() / max(r.seconds(kind), 0.001)
}

// seconds is how long the steps of a kind took.
func (r *result) seconds(kind int) (sum float64) {
	for _, st := range r.steps {
		if st.kind == kind {
			sum += st.to.at.Sub(st.from.at).Seconds()
		}
	}
	return sum
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func first(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf(", first: %.200s", strings.TrimSpace(text))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// wrong reports events that the victim did not get once and in order.
func (r *result) wrong() error {
	missing := 0
	for k := range kinds {
		missing += r.latency(k).missing
	}
	r.victim.mu.Lock()
	defer r.victim.mu.Unlock()
	switch {
	case r.cut != nil:
		return fmt.Errorf("the one measured was cut off: %w", r.cut)
	case missing+r.victim.wrong > 0:
		return fmt.Errorf("%d events missing, %d twice or out of order", missing, r.victim.wrong)
	case r.flapped[flapping].Connected == 0:
		return errors.New("nobody could connect")
	}
	return nil
}
