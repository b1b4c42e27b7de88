package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/bits"
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

func (n *naive) clone() *naive { return &naive{maps.Clone(n.filters), maps.Clone(n.seats)} }

func (n *naive) set(c filter.Change) {
	if c.Revision > n.filters[c.ID].Revision {
		n.filters[c.ID] = c
	}
}

func (n *naive) recipients(raw []byte) []event.Address {
	ev, err := filter.DecodeEvent(raw)
	if err != nil {
		panic(err)
	}
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
	r, model := newRoutes(lane.Shard{}), &naive{make(map[filter.ID]filter.Change), make(map[event.Address]string)}
	var v resolver
	revisions := make(map[filter.ID]int64)
	var history []filter.Change // also comes again, in any order
	lastSeat := make(map[event.Gateway]event.Seat)
	before, beforeModel := r.view(), model.clone()
	for range 600 {
		r.expect(rng.IntN(100))
		g := event.Gateway(1 + rng.IntN(4))
		switch rng.IntN(12) {
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
				for r.dropSeats(g, 1+rng.IntN(5)) {
				}
				for a := range model.seats {
					if a.Gateway == g {
						delete(model.seats, a)
					}
				}
			}
		case 10: // a client that reconnects without end
			if rng.IntN(3) > 0 {
				break // few of these make many
			}
			from := lastSeat[g] + 1
			lastSeat[g] += event.Seat(rng.IntN(chunkMost))
			var joined []lane.Seated
			for seat := from; seat <= lastSeat[g]; seat++ {
				joined = append(joined, lane.Seated{Seat: seat, Subscriber: "s1"})
				model.seats[event.Address{Gateway: g, Seat: seat}] = "s1"
			}
			r.join(g, joined)
		case 11: // and whose seats end
			var gone []event.Seat
			for seat := 1 + event.Seat(rng.IntN(1+int(lastSeat[g]))); seat <= lastSeat[g] && len(gone) < 3*chunkMost; seat++ {
				gone = append(gone, seat)
				delete(model.seats, event.Address{Gateway: g, Seat: seat})
			}
			r.apply([]lane.Change{{Gateway: g, Forgot: gone}})
		}
		ev := randomEvent(rng)
		compare(t, &v, before, beforeModel, ev) // a view stays what it was
		r.publish()
		compare(t, &v, r.view(), model, ev)
		if rng.IntN(10) == 0 {
			before, beforeModel = r.view(), model.clone()
		}
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

func randomEvent(rng *rand.Rand) []byte {
	raw := map[string]any{"event_type": []string{"a", "b", "c", "d"}[rng.IntN(4)]}
	if rng.IntN(2) == 0 {
		raw["user_tier"] = []string{"gold", "tin"}[rng.IntN(2)]
	}
	if rng.IntN(2) == 0 {
		raw["amount"] = rng.IntN(6)
	}
	text, _ := json.Marshal(raw)
	return text
}

func compare(t *testing.T, v *resolver, w *view, model *naive, raw []byte) {
	t.Helper()
	var d event.Decoder
	ev, err := d.Decode(raw, w.index.Paths())
	if err != nil {
		t.Fatal(err)
	}
	groups, n := v.recipients(w, ev)
	var got []event.Address
	for _, g := range groups {
		seats := seatsOf(g)
		if !slices.IsSorted(seats) || len(slices.Compact(seats)) != len(seats) || len(seats) == 0 {
			t.Fatalf("gateway %v: seats %v are not ascending, or none", g.Gateway, seats)
		}
		for _, s := range seats {
			got = append(got, event.Address{Gateway: g.Gateway, Seat: s})
		}
	}
	slices.SortFunc(got, compareAddress)
	if want := model.recipients(raw); !slices.Equal(got, want) || n != len(want) {
		t.Fatalf("recipients of %s: got %d, %v, want %v", raw, n, got, want)
	}
}

func seatsOf(g lane.Group) (seats []event.Seat) {
	for _, r := range g.Runs {
		for mask := r.Mask; mask != 0; mask &= mask - 1 {
			seats = append(seats, r.First+event.Seat(bits.TrailingZeros64(mask)))
		}
	}
	return seats
}

// checkEmpty takes everything away again and looks for what is left.
func checkEmpty(t *testing.T, r *routes, model *naive) {
	t.Helper()
	for a := range model.seats {
		r.apply([]lane.Change{{Gateway: a.Gateway, Forgot: []event.Seat{a.Seat}}})
	}
	if got := r.counts(); got.active != 0 || got.indexed != 0 {
		t.Errorf("without seats: %+v, want none active or indexed", got)
	}
	for id := range model.filters {
		r.setFilter(filter.Change{Filter: filter.Filter{ID: id, Revision: 1 << 40}, Deleted: true})
	}
	r.prune(time.Now().Add(time.Second))
	for what, n := range map[string]int{
		"filters": len(r.filters), "subscribers": len(r.subscribers), "gateways": len(r.gateways),
		"taken slots": int(r.next) - len(r.free),
	} {
		if n != 0 {
			t.Errorf("%s: %d left, want none", what, n)
		}
	}
	if got := r.counts(); got != (counts{}) {
		t.Errorf("counts = %+v, want none", got)
	}
}
