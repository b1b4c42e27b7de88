package producer

import (
	"encoding/json"
	"math"
	"regexp"
	"testing"
	"time"

	"eventstream/event"
)

func TestGeneratorRepeatsItself(t *testing.T) {
	a, b, other := NewGenerator(1, 100), NewGenerator(1, 100), NewGenerator(2, 100)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	for _, g := range []*Generator{a, b, other} {
		g.now = func() time.Time { return at }
	}
	differ := 0
	for i := range 1000 {
		ea, _ := a.Next()
		eb, _ := b.Next()
		eo, _ := other.Next()
		if string(ea.Value) != string(eb.Value) || string(ea.Key) != string(eb.Key) {
			t.Fatalf("event %d of the same seed: got %s and %s", i, ea.Value, eb.Value)
		}
		if string(ea.Value) != string(eo.Value) {
			differ++
		}
	}
	if differ != 1000 {
		t.Errorf("another seed: got %d other events, want 1000", differ)
	}
}

func TestGeneratorsEvents(t *testing.T) {
	const n = 20_000
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	g := NewGenerator(3, 1000)
	var d event.Decoder
	ids, types, tierOf, users := make(map[string]bool), make(map[string]int), make(map[string]string), make(map[string]int)
	for range n {
		ev, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Decode(ev.Value, nil); err != nil {
			t.Fatalf("%s: %v", ev.Value, err)
		}
		var e struct {
			ID        string    `json:"event_id"`
			Type      string    `json:"event_type"`
			User      string    `json:"user_id"`
			Tier      string    `json:"user_tier"`
			Amount    *float64  `json:"amount"`
			Currency  string    `json:"currency"`
			Timestamp time.Time `json:"timestamp"`
		}
		if err := json.Unmarshal(ev.Value, &e); err != nil {
			t.Fatal(err)
		}
		if !uuid.MatchString(e.ID) || ids[e.ID] {
			t.Fatalf("event_id %s: want a new UUID", e.ID)
		}
		if string(ev.Key) != e.User {
			t.Fatalf("key: got %s, want %s", ev.Key, e.User)
		}
		if known := tierOf[e.User]; known != "" && known != e.Tier {
			t.Fatalf("%s is %s and %s", e.User, known, e.Tier)
		}
		hasAmount := e.Type == "purchase" || e.Type == "refund" || e.Type == "add_to_cart" || e.Type == "payment_failed"
		if (e.Amount != nil) != hasAmount || (e.Currency != "") != hasAmount {
			t.Fatalf("%s: got amount %v %q", e.Type, e.Amount, e.Currency)
		}
		if e.Amount != nil && (*e.Amount <= 0 || math.Abs(*e.Amount*100-math.Round(*e.Amount*100)) > 1e-6) {
			t.Fatalf("amount: got %v, want more than 0 with 2 decimals", *e.Amount)
		}
		if d := time.Since(e.Timestamp); d < 0 || d > time.Minute {
			t.Fatalf("timestamp: got %v", e.Timestamp)
		}
		ids[e.ID] = true
		types[e.Type]++
		tierOf[e.User] = e.Tier
		users[e.User]++
	}
	for _, k := range kinds {
		if got, want := float64(types[k.name])/n, float64(k.weight)/100; math.Abs(got-want) > 0.01 {
			t.Errorf("%s: got %.3f of the events, want %.2f", k.name, got, want)
		}
	}
	if share := float64(users["user_1"]) / n; share < 0.02 {
		t.Errorf("user_1: got %.3f of the events, want a busy user", share)
	}
}

func BenchmarkGenerator(b *testing.B) {
	g := NewGenerator(1, 0)
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}
