package pipeline

import (
	"iter"
	"slices"

	"eventstream/filter/index"
)

// wants is the conditions of one subscriber's filters, and how many filters have
// each. Most subscribers have few filters: only many are worth a map.
type wants struct {
	few  []*index.Condition // one for each filter
	many map[*index.Condition]int
}

const fewWants = 32

// add notes one more filter, and reports whether its condition is new.
func (w *wants) add(c *index.Condition) (first bool) {
	if w.many != nil {
		w.many[c]++
		return w.many[c] == 1
	}
	first = !slices.Contains(w.few, c)
	if w.few = append(w.few, c); len(w.few) > fewWants {
		w.many = make(map[*index.Condition]int)
		for _, c := range w.few {
			w.many[c]++
		}
		w.few = nil
	}
	return first
}

// remove notes one filter fewer, and reports whether it was the last with its condition.
func (w *wants) remove(c *index.Condition) (last bool) {
	if w.many != nil {
		if w.many[c]--; w.many[c] > 0 {
			return false
		}
		delete(w.many, c)
		return true
	}
	i := slices.Index(w.few, c)
	w.few = slices.Delete(w.few, i, i+1)
	return !slices.Contains(w.few, c)
}

func (w *wants) none() bool { return len(w.few)+len(w.many) == 0 }

// all yields the conditions; one that several filters have may come several times.
func (w *wants) all() iter.Seq[*index.Condition] {
	return func(yield func(*index.Condition) bool) {
		for _, c := range w.few {
			if !yield(c) {
				return
			}
		}
		for c := range w.many {
			if !yield(c) {
				return
			}
		}
	}
}
