package producer

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Generator generates endless events of a shop. The same seed gives the same events,
// except for their timestamps.
type Generator struct {
	rng   *rand.Rand
	users *rand.Zipf
	n     uint64
	now   func() time.Time
}

// NewGenerator returns a Generator of events of so many users, 10,000 if zero. A few
// users cause most of the events.
func NewGenerator(seed uint64, users int) *Generator {
	if users <= 0 {
		users = 10_000
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	return &Generator{rng: rng, users: rand.NewZipf(rng, 1.1, 10, uint64(users-1)), now: time.Now}
}

// kinds are the types of events. Those with a median have an amount.
var kinds = []struct {
	name   string
	weight int
	median float64
}{
	{"page_view", 50, 0}, {"search", 12, 0}, {"add_to_cart", 12, 35}, {"login", 10, 0}, {"purchase", 10, 60},
	{"logout", 3, 0}, {"signup", 1, 0}, {"refund", 1, 45}, {"payment_failed", 1, 70},
}

// places are countries with their currencies.
var places = [][2]string{
	{"US", "USD"}, {"US", "USD"}, {"GB", "GBP"}, {"DE", "EUR"}, {"FR", "EUR"}, {"JP", "JPY"}, {"BR", "BRL"}, {"IN", "INR"},
}

var devices = []string{"ios", "android", "web", "web"}

// Next returns the next event. It never fails.
func (g *Generator) Next() (Event, error) {
	g.n++
	user := g.users.Uint64() + 1
	// A user's properties depend only on the user's number.
	traits := rand.NewPCG(user, 1).Uint64()
	kind := kinds[g.kind()]
	key := strconv.AppendUint([]byte("user_"), user, 10)
	place := places[traits>>8%uint64(len(places))]

	b := make([]byte, 0, 320)
	b = append(b, `{"event_id":"`...)
	b = g.appendID(b)
	b = append(b, `","event_type":"`...)
	b = append(b, kind.name...)
	b = append(b, `","user_id":"`...)
	b = append(b, key...)
	b = append(b, `","user_tier":"`...)
	b = append(b, tier(traits%100)...)
	if kind.median > 0 {
		b = append(b, `","amount":`...)
		b = strconv.AppendFloat(b, amount(g.rng.NormFloat64(), kind.median), 'f', 2, 64)
		b = append(b, `,"currency":"`...)
		b = append(b, place[1]...)
	}
	b = append(b, `","timestamp":"`...)
	b = g.now().UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","country":"`...)
	b = append(b, place[0]...)
	b = append(b, `","device":"`...)
	b = append(b, devices[g.rng.IntN(len(devices))]...)
	b = append(b, `"}`...)
	return Event{Key: key, Value: b}, nil
}

func (g *Generator) kind() int {
	n := g.rng.IntN(100)
	for i, k := range kinds {
		if n -= k.weight; n < 0 {
			return i
		}
	}
	panic("the weights of kinds don't add up to 100")
}

func tier(percent uint64) string {
	switch {
	case percent < 75:
		return "free"
	case percent < 95:
		return "premium"
	}
	return "enterprise"
}

// amount is log-normally distributed: mostly near the median, seldom far above.
func amount(normal, median float64) float64 {
	return math.Max(0.01, math.Round(median*math.Exp(0.9*normal)*100)/100)
}

// appendID appends a version 7 UUID with a counter instead of the time.
func (g *Generator) appendID(b []byte) []byte {
	high := g.n<<16 | 7<<12 | g.rng.Uint64()>>52
	low := 2<<62 | g.rng.Uint64()>>2
	const digits = "0123456789abcdef"
	for i, shift := 0, 60; i < 16; i, shift = i+1, shift-4 {
		if i == 8 || i == 12 {
			b = append(b, '-')
		}
		b = append(b, digits[high>>shift&15])
	}
	for i, shift := 0, 60; i < 16; i, shift = i+1, shift-4 {
		if i == 0 || i == 4 {
			b = append(b, '-')
		}
		b = append(b, digits[low>>shift&15])
	}
	return b
}
