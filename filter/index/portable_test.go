package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestPortable takes random conditions from one Index to others that number
// their attributes in another order: there, each is what its Spec comes to.
func TestPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	from := New(Options{})
	specs := make([]filter.Spec, 2000)
	exported := make([]Portable, len(specs))
	for i := range specs {
		specs[i] = filtertest.Spec(rng)
		if i%100 == 0 { // a list that is searched by its table
			specs[i].Where = filter.Where{"a": {In: many(50)}}
		}
		exported[i] = from.Export(from.Intern(&specs[i]))
	}
	events := make([][]byte, 300)
	for i := range events {
		events[i] = filtertest.Event(rng)
	}
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			to := model{x: New(Options{})}
			for _, i := range rand.New(rand.NewPCG(seed, 3)).Perm(len(specs)) {
				c := to.x.InternPortable(exported[i])
				if want := to.x.Intern(&specs[i]); c != want {
					t.Errorf("%+v comes to another condition than its export", specs[i])
				}
				to.x.Add(c, Slot(i))
				to.held = append(to.held, holding{specs[i], Slot(i), c})
			}
			var r reader
			for _, raw := range events {
				got, err := r.match(to.x.Snapshot(), raw)
				if want := to.want(raw); err == nil && !slices.Equal(got, want) {
					t.Errorf("%s: matches %v, want %v", raw, got, want)
				}
			}
		})
	}
	wg.Wait()
}

// many returns so many texts, some of which events have.
func many(n int) []filter.Scalar {
	list := []filter.Scalar{filter.Text("a")}
	for i := range n {
		list = append(list, filter.Text(fmt.Sprint("text ", i)), filter.Num(float64(i)))
	}
	return list
}
