// Command filters runs the same filters over the same events through our engine
// and through what else a Go service could use, and prints what each costs as
// Markdown: CPU time per event in relation to ours, and memory and CPU time per
// filter.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each is measured")
	flag.Parse()
	if err := run(os.Stdout, max(*rounds, 1)); err != nil {
		fmt.Fprintln(os.Stderr, "filters:", err)
		os.Exit(1)
	}
}

// run prints the tables.
func run(out io.Writer, rounds int) error {
	if err := printPeers(out, rounds); err != nil {
		return err
	}
	if err := printSizes(out, rounds); err != nil {
		return err
	}
	return printFootprints(out)
}

func printPeers(out io.Writer, rounds int) error {
	fmt.Fprintln(out, "| filters | matches | engine | CPU per event | ours, in the same rounds | times ours |\n|--:|--:|---|--:|--:|--:|")
	for _, filters := range []int{1_000, 10_000} {
		w := newWorkload(filters, 10, 0)
		for _, c := range peers {
			if err := comparePeer(out, rounds, c, w); err != nil {
				return fmt.Errorf("%s with %d filters: %w", c.name, filters, err)
			}
		}
	}
	return nil
}

// comparePeer prints what a peer costs with each kind of events, after a check
// that it finds what we find.
func comparePeer(out io.Writer, rounds int, c contender, w workload) error {
	reference, err := newOurs(w, ready)
	if err != nil {
		return err
	}
	peer, err := c.build(w)
	if err != nil {
		return err
	}
	defer peer.close()
	for _, matches := range []int{10, 0} {
		events := w.kinds[matches]
		if err := checkEqual(reference, peer, events); err != nil {
			return err
		}
		r, err := interleave(rounds, newSubject(reference, events), newSubject(peer, events))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %s |\n", count(len(w.queries)), matches, c.title,
			duration(r[1].nanos), duration(r[0].nanos), count(int(r[1].ratio+0.5)))
	}
	return nil
}

func printSizes(out io.Writer, rounds int) error {
	fmt.Fprintln(out, "\n| filters, ours | matches | CPU per event | times that of 10,000 filters |\n|--:|--:|--:|--:|")
	sizes := []int{10_000, 1_000, 100_000, 1_000_000} // the first is what the others relate to
	kinds := make(map[int][]*subject)
	for _, filters := range sizes {
		w := newWorkload(filters, 10, 0)
		e, err := newOurs(w, ready)
		if err != nil {
			return err
		}
		for matches, events := range w.kinds {
			kinds[matches] = append(kinds[matches], newSubject(e, events))
		}
	}
	for _, matches := range []int{10, 0} {
		r, err := interleave(rounds, kinds[matches]...)
		if err != nil {
			return err
		}
		for _, i := range []int{1, 0, 2, 3} {
			fmt.Fprintf(out, "| %s | %d | %s | %.2f |\n", count(sizes[i]), matches, duration(r[i].nanos), r[i].ratio)
		}
	}
	return nil
}

func printFootprints(out io.Writer) error {
	fmt.Fprintln(out, "\n| engine | filters | memory per filter | CPU to make one |\n|---|--:|--:|--:|")
	for _, l := range []struct {
		contender      contender
		filters, times int
	}{
		{us, 10_000, 3}, {usReady, 10_000, 3}, {usReady, 1_000_000, 1},
		{peers[0], 10_000, 3}, {peers[1], 10_000, 1}, {peers[2], 10_000, 3}, {peers[3], 10_000, 3},
	} {
		f, err := weigh(l.contender, newWorkload(l.filters, 10), l.times)
		if err != nil {
			return fmt.Errorf("%s with %d filters: %w", l.contender.name, l.filters, err)
		}
		fmt.Fprintf(out, "| %s | %s | %s B | %s |\n", l.contender.title, count(l.filters), count(int(f.bytes)), duration(f.nanos))
	}
	return nil
}

// duration writes nanoseconds with three digits or so.
func duration(nanos float64) string {
	switch {
	case nanos < 10e3:
		return fmt.Sprintf("%.2f µs", nanos/1e3)
	case nanos < 1e6:
		return fmt.Sprintf("%.0f µs", nanos/1e3)
	default:
		return fmt.Sprintf("%.1f ms", nanos/1e6)
	}
}

// count writes a whole number with commas.
func count(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", count(n/1000), n%1000)
}
