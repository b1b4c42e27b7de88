package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"eventstream/filter"
)

// plan is all that is drawn from the seed before anything starts. What is drawn
// later, such as how long a client stays, comes from a source of its own for
// each, with the same seed.
type plan struct {
	seed        uint64
	pool        []*filter.Spec // filters, without a subscriber: shared, so that each is tried once on each event
	subscribers []subscriberPlan
	clients     []clientPlan
	faults      []injection
}

// subscriberPlan is one subscriber's filters at the start, as numbers in the pool.
type subscriberPlan struct {
	name    string
	filters []int
	restful bool // never changes its filters
}

// clientPlan is whose client it is, and what it does.
type clientPlan struct {
	subscriber int
	habit      habit
}

// Streams of random numbers, each for another use of the seed.
const (
	streamPlan = iota
	streamLoad
	streamFaults
	streamTakes
	streamClients     = 1 << 20
	streamSubscribers = 2 << 20
)

func newPlan(cfg Config) (*plan, error) {
	rng := rand.New(rand.NewPCG(cfg.Seed, streamPlan))
	p := &plan{seed: cfg.Seed}
	for range 40 {
		p.pool = append(p.pool, drawSpec(rng))
	}
	// Some subscribers have two clients.
	for i := range max(1, cfg.Clients*5/6) {
		s := subscriberPlan{name: fmt.Sprintf("subscriber-%d", i), restful: rng.IntN(4) > 0}
		for range 1 + rng.IntN(3) {
			s.filters = append(s.filters, rng.IntN(len(p.pool)))
		}
		p.subscribers = append(p.subscribers, s)
	}
	for i := range cfg.Clients {
		// The first ones share their subscriber with the last.
		shared := i%len(p.subscribers) <= (cfg.Clients-1)%len(p.subscribers) && cfg.Clients > len(p.subscribers)
		habit := drawHabit(rng, shared)
		habit.exact = i%2 == 0
		p.clients = append(p.clients, clientPlan{i % len(p.subscribers), habit})
	}
	p.clients = append(p.clients, drawFlapping(rng, cfg.Clients, len(p.subscribers))...)
	p.drawTakes(rand.New(rand.NewPCG(cfg.Seed, streamTakes)))
	var err error
	p.faults, err = drawFaults(cfg, rand.New(rand.NewPCG(cfg.Seed, streamFaults)))
	return p, err
}

// drawHabit makes up what a client does. Two that share a subscriber would share
// its acknowledgements.
func drawHabit(rng *rand.Rand, shared bool) habit {
	switch n := rng.IntN(10); {
	case n == 0 && !shared:
		return habit{durable: true}
	case n == 1:
		return habit{since: true, sse: rng.IntN(2) == 0}
	case n == 2:
		return habit{sse: true}
	}
	return habit{}
}

// drawTakes has some clients say how large a message they take: some of what the load calls
// large has room in it, or nothing has.
func (p *plan) drawTakes(rng *rand.Rand) {
	for i := range p.clients {
		if rng.IntN(5) == 0 {
			p.clients[i].habit.takes = pick(rng, []int{4 << 10, 3 * maxPadding / 4})
		}
	}
}

// drawFlapping makes up clients that do harm by coming and going: one for each 25
// others, and at least four. Half of them are the first subscriber's.
func drawFlapping(rng *rand.Rand, clients, subscribers int) []clientPlan {
	all := make([]clientPlan, max(4, clients/25))
	for i := range all {
		all[i].habit = habit{flaps: true, anew: i/2%2 == 0, sse: rng.IntN(3) == 0, exact: i/2%2 == 1}
		if i%2 == 1 {
			all[i].subscriber = rng.IntN(subscribers)
		}
	}
	return all
}

func (p *plan) rng(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(p.seed, stream)) }

// What events are made of.
var (
	eventTypes = []string{"purchase", "refund", "login", "logout", "page_view", "search", "signup", "add_to_cart"}
	tiers      = []string{"free", "premium", "enterprise"}
	countries  = []string{"US", "GB", "DE", "FR", "JP", "BR"}
)

// users is how many keys there are: few, so that whole partitions fall idle.
const users = 24

// drawSpec makes up a filter that matches from a hundredth to a fifth of the
// events, give or take.
func drawSpec(rng *rand.Rand) *filter.Spec {
	s := &filter.Spec{}
	switch rng.IntN(7) {
	case 0:
		s.EventTypes = some(rng, eventTypes, 1)
	case 1:
		s.EventTypes, s.UserTiers = some(rng, eventTypes, 2), some(rng, tiers, 1)
	case 2:
		low := float64(rng.IntN(180))
		s.EventTypes, s.MinAmount, s.MaxAmount = some(rng, eventTypes, 3), &low, new(low+20)
	case 3:
		first := rng.IntN(users)
		s.UserIDs = []string{userID(first), userID((first + 1 + rng.IntN(users-1)) % users)}
	case 4:
		s.Countries = some(rng, countries, 1)
		s.Where = filter.Where{"items.sku": {Prefix: new(fmt.Sprintf("sku-%d", rng.IntN(10)))}}
	case 5:
		s.EventTypes = some(rng, eventTypes, 2)
		s.Any = []filter.Where{
			{"country": {Eq: new(filter.Text(countries[rng.IntN(len(countries))]))}},
			{"amount": {Gt: new(filter.Num(float64(150 + rng.IntN(40))))}},
		}
	case 6:
		s.EventTypes = some(rng, eventTypes, 2)
		s.Where = filter.Where{"country": {NotIn: texts(some(rng, countries, 4))}}
	}
	return s
}

func some(rng *rand.Rand, of []string, n int) []string {
	all := slices.Clone(of)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n]
}

func texts(of []string) []filter.Scalar {
	var out []filter.Scalar
	for _, s := range of {
		out = append(out, filter.Text(s))
	}
	return out
}

func userID(n int) string { return fmt.Sprintf("user_%d", n) }

// between draws a time.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}
