package check

import (
	"fmt"
	"io"

	"eventstream/internal/check/judge"
)

// report is what came of a check.
type report struct {
	verdict     judge.Verdict
	sent, acked int
	faults      []*fault
	planned     int   // faults
	unready     error // which process did not come back in the end
}

func (r *run) report(v judge.Verdict, unready error) *report {
	sent, acked := r.events.Len()
	return &report{verdict: v, sent: sent, acked: acked, faults: r.faults.faults, planned: len(r.plan.faults), unready: unready}
}

// maxShown bounds the violations of one kind that are shown one by one.
const maxShown = 10

// write writes the report and returns ErrViolated if a promise was broken.
func (r *report) write(out io.Writer) error {
	v := &r.verdict
	fmt.Fprintf(out, "%d events sent, %d acknowledged; %d connections; %d repeats at seams, %d events in gaps that were allowed\n\n",
		r.sent, r.acked, v.Conns, v.Seams, v.Excused)
	r.table(out)
	failed := len(v.Violations) > 0
	for _, f := range r.faults {
		if f.err != nil {
			failed = true
			fmt.Fprintf(out, "%s of %s at %d did not heal: %v\n", f.kind.name, f.target, f.began, f.err)
		}
	}
	if r.unready != nil {
		failed = true
		fmt.Fprintf(out, "not ready in the end: %v\n", r.unready)
	}
	r.violations(out)
	fmt.Fprintf(out, "events checked %d, lost %d, extra %d, repeated %d, faults %d\n",
		v.Checked, v.Lost, v.Extra, v.Repeated, len(r.faults))
	if failed {
		return ErrViolated
	}
	return nil
}

// violations writes some of each kind, and of each client only the first ones.
func (r *report) violations(out io.Writer) {
	type group struct{ kind, client string }
	kinds, groups, hidden := make(map[string]int), make(map[group]int), 0
	for _, x := range r.verdict.Violations {
		g := group{x.Kind, x.Client}
		groups[g]++
		if kinds[x.Kind] >= maxShown || groups[g] > 2 {
			hidden++
			continue
		}
		kinds[x.Kind]++
		fmt.Fprintf(out, "%v; last fault: %s\n", x, r.faultBefore(x.At))
	}
	if hidden > 0 {
		fmt.Fprintf(out, "and %d more violations\n", hidden)
	}
}

// table writes how often each kind of fault came, and how often nothing went
// wrong from then until the next fault.
func (r *report) table(out io.Writer) {
	times, survived := make(map[string]int), make(map[string]int)
	for i, f := range r.faults {
		next := judge.Never
		if i+1 < len(r.faults) {
			next = r.faults[i+1].began
		}
		times[f.kind.name]++
		if f.err == nil && !r.violated(f.began, next) {
			survived[f.kind.name]++
		}
	}
	fmt.Fprintf(out, "%-20s %6s %9s\n", "fault", "times", "survived")
	for _, k := range kinds {
		if times[k.name] > 0 {
			fmt.Fprintf(out, "%-20s %6d %9d\n", k.name, times[k.name], survived[k.name])
		}
	}
	fmt.Fprintf(out, "%-20s %6d        of %d in the plan\n\n", "all", len(r.faults), r.planned)
}

func (r *report) violated(from, to judge.Seq) bool {
	for _, v := range r.verdict.Violations {
		if from <= v.At && v.At < to {
			return true
		}
	}
	return false
}

func (r *report) faultBefore(at judge.Seq) string {
	last := "none"
	for _, f := range r.faults {
		if f.began <= at {
			last = fmt.Sprintf("%s of %s at %d", f.kind.name, f.target, f.began)
		}
	}
	return last
}
