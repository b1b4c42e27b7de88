package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/presence"
	"eventstream/wire"
)

// Balancers that have not looked yet may send clients to a gateway that leaves.
func TestLeavingGatewayTakesClients(t *testing.T) {
	t.Parallel()
	g := newWorld(t, 1).gateway(Config{})
	g.gate.moveOn(phaseLeaving)
	if g.Ready(context.Background()) == nil {
		t.Error("a gateway that leaves is ready")
	}
	connect(t, g, "user_1", "")
	g.gate.moveOn(phaseEmptying)
	if _, resp, err := dial(g, "user_1", ""); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a gateway that empties lets somebody in: %v, %v", resp, err)
	}
}

// A gateway that has given out nearly all seats there are ends as one that is told to, so
// that another one takes its place: nobody is refused meanwhile, and it does not go on
// refusing everybody.
func TestSeatsUsedUp(t *testing.T) {
	for _, tt := range []struct {
		given event.Seat
		last  int // status of the handshake after the next
	}{{presence.MostSeats - 1, 101}, {math.MaxUint32 - 1, 503}} {
		w := newWorld(t, 1)
		g := w.gateway(Config{DrainDelay: 2 * time.Second, afterSeat: tt.given}) // as balancers need
		c := connect(t, g, "user_1", "")
		id := w.publish(0, "user_1")
		c.untilEvent(id)
		if status := askStatus(t, g); status != tt.last {
			t.Errorf("after %d seats and one: got %d, want %d", tt.given, status, tt.last)
		}
		if code := c.untilClose(10 * time.Second); code != wire.CloseDrain {
			t.Errorf("close code: got %d, want %d", code, wire.CloseDrain)
		}
		if g.Ready(t.Context()) == nil {
			t.Error("still ready")
		}
		if err := <-g.done; !errors.Is(err, presence.ErrUsed) {
			t.Errorf("Run: %v, want %v", err, presence.ErrUsed)
		}
		g.done <- nil // for who ends it
	}
}
