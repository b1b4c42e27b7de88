package gateway

import (
	"context"
	"net/http"
	"slices"
	"testing"

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
			closed := slices.Index(ops, opClose)
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
