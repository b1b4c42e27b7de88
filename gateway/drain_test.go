package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/presence"
	"eventstream/wire"
)

// Connections are closed by turns, and whose turn has not come gets events.
func TestDismissByTurns(t *testing.T) {
	b := newBench(t, Config{})
	const n = 10
	conns, socks := make([]*conn, n), make([]*fakeSocket, n)
	for i := range n {
		conns[i], socks[i] = b.join(nil)
		b.openConn(conns[i])
	}
	for turn, want := range []int{3, 6, 8, 10} { // of 4 turns
		b.Gateway.dismiss(4-turn, lastSeat, "bye")
		b.settleMail()
		for _, c := range conns {
			b.event(int64(turn), 1, c.seat)
		}
		b.settleMail()
		told := 0
		for _, f := range socks {
			msgs, ops := f.messages(t)
			closed := slices.Index(ops, framing.OpClose)
			if closed >= 0 {
				told++
			}
			if closed >= 0 && closed != len(ops)-1 {
				t.Errorf("frames after the close: ops %v", ops)
			}
			if last := msgs[len(msgs)-1]; closed < 0 && (last.Type != wire.Events || len(f.ids(t)) != turn+1) {
				t.Errorf("turn %d: a client that has not been sent away has %v", turn, f.ids(t))
			}
		}
		if told != want {
			t.Errorf("turn %d: %d clients were sent away so far, want %d", turn, told, want)
		}
	}
}

// Balancers that have not looked yet may send clients to a gateway that leaves.
func TestLeavingGatewayTakesClients(t *testing.T) {
	t.Parallel()
	g := newWorld(t, 1).gateway(Config{})
	g.moveOn(phaseLeaving)
	if g.Ready(context.Background()) == nil {
		t.Error("a gateway that leaves is ready")
	}
	connect(t, g, "user_1", "")
	g.moveOn(phaseEmptying)
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
