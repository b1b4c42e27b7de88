package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// query is one subscriber's filter: what is asked of event_type, user_tier and
// amount.
type query struct {
	types, tiers []string
	min          string // a decimal with nine places, so that doubles and decimals agree on it
}

// occurrence is one event, in the form that each engine likes best.
type occurrence struct {
	raw       []byte // as it comes from Kafka
	typ, tier string
	amount    float64
	decimal   string // amount, as it is written in raw
}

// workload is filters and events that go with them.
type workload struct {
	queries []query
	events  []occurrence  // few kinds, one after another
	kinds   map[int][]int // the numbers of the events that match so many filters
}

// eventsEach is how many events of each kind there are.
const eventsEach = 64

// newWorkload makes filters with one to three of 20 types, one or two of 4 tiers
// and an amount that is different in each; and, for each number of matches
// wanted, events that match about as many: between half and one and a half of
// it. With 0 nobody wants the event: its amount is too low.
func newWorkload(filters int, matches ...int) workload {
	rng := rand.New(rand.NewPCG(1, 2))
	w := workload{queries: make([]query, filters), kinds: make(map[int][]int)}
	for i := range w.queries {
		w.queries[i] = query{
			types: choose(rng, "type_%d", 20, 3), tiers: choose(rng, "tier_%d", 4, 2),
			min: fmt.Sprintf("0.%09d", rng.IntN(1e9)),
		}
	}
	for _, m := range matches {
		for range eventsEach {
			i := len(w.events)
			w.kinds[m] = append(w.kinds[m], i)
			w.events = append(w.events, newOccurrence(rng, i, float64(m)/float64(filters)))
		}
	}
	return w
}

// choose returns between one and most of the names.
func choose(rng *rand.Rand, format string, of, most int) []string {
	var names []string
	for _, i := range rng.Perm(of)[:1+rng.IntN(most)] {
		names = append(names, fmt.Sprintf(format, i))
	}
	return names
}

// newOccurrence makes an event that this share of the filters matches.
func newOccurrence(rng *rand.Rand, i int, matching float64) occurrence {
	const sameTypeAndTier = 2. / 20 * 1.5 / 4 // share of the filters
	o := occurrence{typ: fmt.Sprintf("type_%d", rng.IntN(20)), tier: fmt.Sprintf("tier_%d", rng.IntN(4)), decimal: "-1.000000000"}
	if matching > 0 {
		o.decimal = fmt.Sprintf("%.9f", matching/sameTypeAndTier*(0.5+rng.Float64()))
	}
	if err := json.Unmarshal([]byte(o.decimal), &o.amount); err != nil {
		panic(err) // it is a number
	}
	o.raw = fmt.Appendf(nil, `{"event_id":"evt_%08d","event_type":"%s","user_id":"user_%d","user_tier":"%s",`+
		`"amount":%s,"currency":"EUR","timestamp":"2026-01-02T03:04:05.678Z","session":"9f8e7d6c5b4a","country":"DE",`+
		`"device":"mobile","campaign":"spring_sale","sku":"cat7/item123","referrer":"https://example.com/a/b"}`,
		i, o.typ, 48213+i, o.tier, o.decimal)
	return o
}

// list is the names as JSON, which is also how CEL and expr-lang write a list.
func list(names []string) string { return `["` + strings.Join(names, `","`) + `"]` }
