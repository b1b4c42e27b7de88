// Package workload makes the filters and events of the benchmarks: the same ones
// for every number of filters and every engine that is compared.
package workload

import (
	"fmt"
	"math/rand/v2"

	"eventstream/filter"
)

// Filters is a mix of filters with one to a few of 20 event types and of 4 tiers,
// and a minimum amount that is different in each, between 0 and 1.
type Filters struct {
	types, tiers [2]int // from how many to how many
}

var (
	Narrow = Filters{[2]int{1, 3}, [2]int{1, 2}} // of type and tier, an event passes 3.75 %
	Wide   = Filters{[2]int{3, 8}, [2]int{2, 4}} // 20.6 %
)

// For returns the narrowest mix of which an event can match so many.
func For(filters, matches int) Filters {
	if float64(matches)/float64(filters) > Narrow.share() {
		return Wide
	}
	return Narrow
}

// Specs returns the first n filters, of the subscribers "user_0" and on.
func (f Filters) Specs(n int) []filter.Spec {
	rng := rand.New(rand.NewPCG(1, 2))
	specs := make([]filter.Spec, n)
	for i := range specs {
		specs[i] = f.spec(rng, i)
	}
	return specs
}

func (f Filters) spec(rng *rand.Rand, i int) filter.Spec {
	return filter.Spec{
		SubscriberID: fmt.Sprint("user_", i), MinAmount: new(rng.Float64()),
		EventTypes: some(rng, types, f.types), UserTiers: some(rng, tiers, f.tiers),
	}
}

// Values are made once, as those of real filters are.
var types, tiers = names("type_", 20), names("tier_", 4)

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

func some(rng *rand.Rand, of []string, n [2]int) []string {
	var out []string
	for _, i := range rng.Perm(len(of))[:n[0]+rng.IntN(n[1]-n[0]+1)] {
		out = append(out, of[i])
	}
	return out
}

// share is which share of the filters an event passes by type and tier.
func (f Filters) share() float64 {
	return float64(f.types[0]+f.types[1]) / 2 / 20 * float64(f.tiers[0]+f.tiers[1]) / 2 / 4
}

// Event returns an event of 13 attributes and some 310 bytes that matches about
// so many of n filters.
func (f Filters) Event(matches, n int) []byte {
	amount := float64(matches) / float64(n) / f.share()
	if matches == 0 {
		amount = -1
	}
	return fmt.Appendf(nil, `{"event_id":"evt_00012345","event_type":"type_3","user_id":"user_48213","user_tier":"tier_1",`+
		`"amount":%.9f,"currency":"EUR","timestamp":"2026-01-02T03:04:05.678Z","session":"9f8e7d6c5b4a","country":"DE",`+
		`"device":"mobile","campaign":"spring_sale","sku":"cat7/item123","referrer":"https://example.com/a"}`, amount)
}

// Users returns n filters of which each names one of n/20 users and 10 of the 20
// event types: an event matches about ten, at any n.
func Users(n int) []filter.Spec {
	rng := rand.New(rand.NewPCG(3, 4))
	specs := make([]filter.Spec, n)
	for i := range specs {
		specs[i] = filter.Spec{
			SubscriberID: fmt.Sprint("user_", i),
			UserIDs:      []string{fmt.Sprint("user_", rng.IntN(max(n/20, 1)))},
			EventTypes:   some(rng, types, [2]int{10, 10}),
		}
	}
	return specs
}
