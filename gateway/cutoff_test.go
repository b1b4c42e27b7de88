package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
	"eventstream/wire"
)

// A gateway that is cut off from the lanes sends its clients away, who go on at another
// one from their cursors. It takes none before the lanes answer again, and then as before.
func TestCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	l := &flaky{Memory: w.store}
	g := started(launchGateway(t, Config{CutOff: 2 * time.Second, cutOffDrain: 2 * time.Second}, l))
	other := w.gateway(Config{})
	var clients []*wsClient
	for i := range 4 {
		clients = append(clients, connect(t, g, fmt.Sprint("user_", i), ""))
	}
	first := w.publish(0, "user_0", "user_1", "user_2", "user_3")
	for _, c := range clients {
		c.untilEvent(first)
	}
	l.tail.Store(hangs)
	l.cut()
	missed := w.publish(0, "user_0", "user_1", "user_2", "user_3")
	for i, c := range clients {
		if code := c.untilClose(20 * time.Second); code != wire.CloseDrain {
			t.Errorf("closed with %d, want %d", code, wire.CloseDrain)
		}
		again := connect(t, other, fmt.Sprint("user_", i), c.cursor)
		again.untilEvent(missed)
		if len(again.gaps) > 0 {
			t.Errorf("told of gaps %v", again.gaps)
		}
	}
	if n := strings.Count(g.logs.String(), "closing connections, so that clients go on elsewhere"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	wantUnready(t, g, "lanes have not answered")
	l.tail.Store(works)
	l.cut()
	testenv.Eventually(t, 15*time.Second, func() error { return g.Ready(t.Context()) })
	c := connect(t, g, "user_0", "")
	c.untilEvent(w.publish(0, "user_0"))
}

// Those whose turn has not come when the lanes answer again stay.
func TestFading(t *testing.T) {
	f := fading{after: 10 * time.Second, steps: 3}
	for i, tt := range []struct {
		silent time.Duration
		want   int
	}{
		{9 * time.Second, 0}, {10 * time.Second, 3}, {11 * time.Second, 2}, {0, 0},
		{10 * time.Second, 3}, {11 * time.Second, 2}, {12 * time.Second, 1}, {13 * time.Second, 1}, {time.Second, 0},
	} {
		if got := f.next(tt.silent); got != tt.want {
			t.Errorf("step %d, silent for %v: one of %d, want of %d", i, tt.silent, got, tt.want)
		}
	}
}
