package delivery

import (
	"math"
	"slices"
	"testing"

	"eventstream/gateway/framing"
	"eventstream/wire"
)

// Connections are closed by turns, and whose turn has not come gets events.
func TestDismissByTurns(t *testing.T) {
	b := newBench(t, Config{})
	const n = 10
	conns, socks := make([]*Client, n), make([]*fakeSocket, n)
	for i := range n {
		conns[i], socks[i] = b.join(nil)
		b.openConn(conns[i])
	}
	for turn, want := range []int{3, 6, 8, 10} { // of 4 turns
		b.Dismiss(4-turn, math.MaxUint32, "bye")
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
