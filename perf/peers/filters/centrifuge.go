package main

import (
	_ "unsafe" // for go:linkname

	"github.com/centrifugal/centrifuge"
)

// tagMatch is the function that a centrifuge server calls for each subscriber of
// each publication. The package doesn't export it, so the linker is asked for it.
//
//go:linkname tagMatch github.com/centrifugal/centrifuge/internal/filter.Match
func tagMatch(f *centrifuge.FilterNode, tags map[string]string) (bool, error)

// tagFilters is centrifuge's filters one after another, without a server around
// them.
type tagFilters struct {
	tags  []map[string]string
	trees []*centrifuge.FilterNode
	pairs []pair
}

func newTagFilters(w workload) *tagFilters {
	e := &tagFilters{tags: tagsOf(w.events), trees: make([]*centrifuge.FilterNode, len(w.queries))}
	for i, q := range w.queries {
		e.trees[i] = tagFilter(q)
	}
	return e
}

// tagFilter is q as a tree of comparisons. It has the type first, which is the
// faster order here.
func tagFilter(q query) *centrifuge.FilterNode {
	return &centrifuge.FilterNode{Op: "and", Nodes: []*centrifuge.FilterNode{
		{Key: "event_type", Cmp: "in", Vals: q.types},
		{Key: "user_tier", Cmp: "in", Vals: q.tiers},
		{Key: "amount", Cmp: "gte", Val: q.min},
	}}
}

func tagsOf(events []occurrence) []map[string]string {
	tags := make([]map[string]string, len(events))
	for i, o := range events {
		tags[i] = map[string]string{"event_type": o.typ, "user_tier": o.tier, "amount": o.decimal}
	}
	return tags
}

func (e *tagFilters) match(events []int) int {
	e.pairs = e.pairs[:0]
	for _, i := range events {
		for slot, tree := range e.trees {
			ok, err := tagMatch(tree, e.tags[i])
			if err != nil {
				panic(err) // tagFilter makes no malformed trees
			}
			if ok {
				e.pairs = append(e.pairs, pair{int32(i), int32(slot)})
			}
		}
	}
	return len(e.pairs)
}

func (e *tagFilters) found() []pair { return e.pairs }

func (e *tagFilters) close() {}
