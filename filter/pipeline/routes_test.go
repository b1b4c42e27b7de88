package pipeline

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
)

// naive is what routes has to come to, without an index.
type naive struct {
	filters map[filter.ID]filter.Change // the latest of each
	seats   map[event.Address]string
}

func (n *naive) set(c filter.Change) {
	if c.Revision > n.filters[c.ID].Revision {
		n.filters[c.ID] = c
	}
}

func (n *naive) recipients(ev *event.Event) []event.Address {
	wants := make(map[string]bool)
	for _, c := range n.filters {
		if !c.Deleted && c.Match(ev) {
			wants[c.SubscriberID] = true
		}
	}
	var out []event.Address
	for a, subscriber := range n.seats {
		if wants[subscriber] {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, compareAddress)
	return out
}

func TestRoutesAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { testRoutes(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func testRoutes(t *testing.T, rng *rand.Rand) {
	r, model := newRoutes(), &naive{make(map[filter.ID]filter.Change), make(map[event.Address]string)}
	v := r.newResolver()
	revisions := make(map[filter.ID]int64)
	var history []filter.Change // also comes again, in any order
	lastSeat := make(map[event.Gateway]event.Seat)
	for range 600 {
		g := event.Gateway(1 + rng.IntN(4))
		switch rng.IntN(10) {
		case 0, 1, 2:
			c := randomChange(rng, revisions)
			history = append(history, c)
			if rng.IntN(3) > 0 { // otherwise it comes later, if at all
				r.setFilter(c)
				model.set(c)
			}
		case 3:
			if len(history) > 0 {
				c := history[rng.IntN(len(history))]
				r.apply([]lane.Change{{Filter: &c}})
				model.set(c)
			}
		case 4, 5, 6:
			joined := randomSeats(rng, lastSeat, g)
			for range 1 + rng.IntN(2) { // from the hash and from the stream
				r.join(g, joined)
			}
			for _, s := range joined {
				model.seats[event.Address{Gateway: g, Seat: s.Seat}] = s.Subscriber
			}
		case 7, 8:
			gone := event.Address{Gateway: g, Seat: 1 + event.Seat(rng.IntN(1+int(lastSeat[g])))}
			r.apply([]lane.Change{{Gateway: g, Forgot: []event.Seat{gone.Seat}}})
			delete(model.seats, gone)
		case 9:
			if rng.IntN(20) == 0 {
				r.dropGateway(g)
				for a := range model.seats {
					if a.Gateway == g {
						delete(model.seats, a)
					}
				}
			}
		}
		compare(t, v, model, randomEvent(rng))
	}
	checkEmpty(t, r, model)
}

func randomChange(rng *rand.Rand, revisions map[filter.ID]int64) filter.Change {
	n := rng.IntN(40)
	id := filter.ID(fmt.Sprint("f", n))
	revisions[id]++
	c := filter.Change{Filter: filter.Filter{ID: id, Revision: revisions[id]}, Deleted: rng.IntN(4) == 0}
	c.SubscriberID = fmt.Sprint("s", n%15)
	for _, typ := range []string{"a", "b", "c"} {
		if rng.IntN(3) == 0 {
			c.EventTypes = append(c.EventTypes, typ)
		}
	}
	if rng.IntN(3) == 0 {
		c.UserTiers = []string{"gold"}
	}
	if rng.IntN(2) == 0 {
		amount := float64(rng.IntN(5))
		c.MinAmount = &amount
	}
	return c
}

func randomSeats(rng *rand.Rand, last map[event.Gateway]event.Seat, g event.Gateway) []lane.Seated {
	out := make([]lane.Seated, 1+rng.IntN(3))
	for i := range out {
		last[g]++
		out[i] = lane.Seated{Seat: last[g], Subscriber: fmt.Sprint("s", rng.IntN(20))}
	}
	return out
}

func randomEvent(rng *rand.Rand) *event.Event {
	raw := map[string]any{"event_type": []string{"a", "b", "c", "d"}[rng.IntN(4)]}
	if rng.IntN(2) == 0 {
		raw["user_tier"] = []string{"gold", "tin"}[rng.IntN(2)]
	}
	if rng.IntN(2) == 0 {
		raw["amount"] = rng.IntN(6)
	}
	text, _ := json.Marshal(raw)
	var d event.Decoder
	ev, err := d.Decode(text)
	if err != nil {
		panic(err)
	}
	return ev
}

func compare(t *testing.T, v *resolver, model *naive, ev *event.Event) {
	t.Helper()
	groups, n := v.recipients(ev)
	var got []event.Address
	for _, g := range groups {
		if !slices.IsSorted(g.Seats) || len(g.Seats) == 0 {
			t.Fatalf("gateway %v: seats %v are not ascending, or none", g.Gateway, g.Seats)
		}
		for _, s := range g.Seats {
			got = append(got, event.Address{Gateway: g.Gateway, Seat: s})
		}
	}
	slices.SortFunc(got, compareAddress)
	if want := model.recipients(ev); !slices.Equal(got, want) || n != len(want) {
		t.Fatalf("recipients of %s: got %d, %v, want %v", ev.Type, n, got, want)
	}
}

// checkEmpty takes everything away again and looks for what is left.
func checkEmpty(t *testing.T, r *routes, model *naive) {
	t.Helper()
	for a := range model.seats {
		r.apply([]lane.Change{{Gateway: a.Gateway, Forgot: []event.Seat{a.Seat}}})
	}
	if active, _, indexed := r.counts(); active != 0 || indexed != 0 {
		t.Errorf("without seats: %d active, %d filters indexed, want none", active, indexed)
	}
	for id := range model.filters {
		r.setFilter(filter.Change{Filter: filter.Filter{ID: id, Revision: 1 << 40}, Deleted: true})
	}
	r.prune(time.Now().Add(time.Second))
	for what, n := range map[string]int{
		"filters": len(r.filters), "owned": len(r.owned), "slots": len(r.slots), "gateways": len(r.gateways),
		"taken slots": len(r.active) - len(r.free),
	} {
		if n != 0 {
			t.Errorf("%s: %d left, want none", what, n)
		}
	}
	if _, filters, _ := r.counts(); filters != 0 {
		t.Errorf("%d filters counted, want none", filters)
	}
}

func TestDropFilters(t *testing.T) {
	r := newRoutes()
	for i := range 3 {
		r.setFilter(filter.Change{Filter: filter.Filter{ID: filter.ID(fmt.Sprint(i)), Revision: 1, Spec: filter.Spec{SubscriberID: "s"}}})
	}
	r.join(1, []lane.Seated{{Seat: 1, Subscriber: "s"}})
	r.dropFilters(map[filter.ID]bool{"0": true, "2": true, "unknown": true})
	if _, filters, indexed := r.counts(); filters != 1 || indexed != 1 {
		t.Errorf("%d filters, %d indexed, want 1 and 1", filters, indexed)
	}
	if got := r.filterIDs(); len(got) != 1 || !got["1"] {
		t.Errorf("filterIDs = %v, want 1", got)
	}
}
