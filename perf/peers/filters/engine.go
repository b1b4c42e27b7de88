package main

import (
	"cmp"
	"fmt"
	"slices"
)

// engine holds the filters of a workload and finds the subscribers of its
// events. Subscriber i has filter i.
type engine interface {
	// match finds the subscribers of these events of the workload, given by
	// number, and returns how many pairs of an event and a subscriber there are.
	match(events []int) int
	// found is the pairs of the last match, in any order.
	found() []pair
	close()
}

type pair struct{ event, subscriber int32 }

// contender is a way to build an engine.
type contender struct {
	name  string
	title string
	build func(w workload) (engine, error)
}

var (
	us      = contender{"ours", "ours, from their JSON", func(w workload) (engine, error) { return newOurs(w, requested) }}
	usReady = contender{"ours-ready", "ours, from Go values", func(w workload) (engine, error) { return newOurs(w, ready) }}
)

var peers = []contender{
	{"centrifuge", "centrifuge, its filters alone", func(w workload) (engine, error) { return newTagFilters(w), nil }},
	{"centrifuge-server", "centrifuge, in its server", func(w workload) (engine, error) { return newServer(w) }},
	{"cel", "cel-go programs", func(w workload) (engine, error) { return newCEL(w) }},
	{"expr", "expr-lang programs", func(w workload) (engine, error) { return newExpr(w) }},
}

// checkEqual reports the first difference between what two engines find.
func checkEqual(ours, peer engine, events []int) error {
	ours.match(events)
	peer.match(events)
	want, got := sorted(ours.found()), sorted(peer.found())
	for i := range max(len(want), len(got)) {
		switch {
		case i == len(got) || i < len(want) && before(want[i], got[i]) < 0:
			return fmt.Errorf("event %d: we match subscriber %d, the peer does not", want[i].event, want[i].subscriber)
		case i == len(want) || before(want[i], got[i]) > 0:
			return fmt.Errorf("event %d: the peer matches subscriber %d, we do not", got[i].event, got[i].subscriber)
		}
	}
	return nil
}

func sorted(pairs []pair) []pair {
	pairs = slices.Clone(pairs)
	slices.SortFunc(pairs, before)
	return pairs
}

func before(a, b pair) int {
	return cmp.Or(cmp.Compare(a.event, b.event), cmp.Compare(a.subscriber, b.subscriber))
}
