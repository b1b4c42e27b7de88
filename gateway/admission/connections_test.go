package admission

import (
	"testing"

	"pgregory.net/rapid"
)

// Connections refuses exactly what is past a limit, whoever comes and goes, and keeps
// nothing of those who left.
func TestConnections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSubscriber, perAddress := rapid.IntRange(0, 3).Draw(t, "per subscriber"), rapid.IntRange(0, 3).Draw(t, "per address")
		c := NewConnections(perSubscriber, perAddress)
		type client struct{ subscriber, address string }
		var open []client
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(open) > 0 && rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "leaves")
				c.Leave(open[i].subscriber, open[i].address)
				open = append(open[:i], open[i+1:]...)
				continue
			}
			n := client{rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "subscriber"), rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}).Draw(t, "address")}
			subscribers, addresses := 0, 0
			for _, o := range open {
				if o.subscriber == n.subscriber {
					subscribers++
				}
				if o.address == n.address {
					addresses++
				}
			}
			want := (perSubscriber == 0 || subscribers < perSubscriber) && (perAddress == 0 || addresses < perAddress)
			if refused := c.Enter(n.subscriber, n.address); (refused == nil) != want {
				t.Fatalf("%v with %d of its subscriber and %d of its address: refused %+v, want it to come in: %t", n, subscribers, addresses, refused, want)
			}
			if want {
				open = append(open, n)
			}
		}
		for _, o := range open {
			c.Leave(o.subscriber, o.address)
		}
		if n := c.Counted(); n != 0 {
			t.Fatalf("nobody is there, but %d subscribers and addresses are counted", n)
		}
	})
}
