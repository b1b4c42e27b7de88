package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
)

// After a cold start lanes are filled with what was there long before. Who comes then
// without a cursor gets what is produced from then on; who comes with one, or came
// before, gets all.
func TestFromNowOnWhileLanesAreFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.publish(0, "user_1")
	g := startGateway(t, Config{}, w.store)
	early := connect(t, g, "user_1", "")
	w.parts[0].mu.Lock()
	w.parts[0].end = 10 // produced, and not matched yet
	w.parts[0].mu.Unlock()
	w.beat()
	testenv.Eventually(t, 10*time.Second, func() error {
		r := g.topics.laneReaders()[0]
		if end := r.Exist()[0]; end != 10 {
			return fmt.Errorf("the gateway knows of the end %d", end)
		}
		return nil
	})

	late := connect(t, g, "user_1", "")
	cur, err := event.ParseCursor(late.cursor)
	if err != nil || !slices.Equal(cur.Next, []int64{10, 0}) || cur.Addr == (event.Address{}) {
		t.Errorf("cursor of hello: %+v, %v; want [10 0] at its address", cur, err)
	}
	var all []string
	for range 12 {
		all = append(all, w.publish(0, "user_1"))
	}
	other := w.publish(1, "user_1")
	for _, c := range []*wsClient{early, late} {
		c.untilEvent(all[11])
		c.untilEvent(other)
	}
	wantIDs(t, early, append(slices.Clone(all), other)...)
	wantIDs(t, late, append(slices.Clone(all[9:]), other)...)

	// What the cursor of hello says is what can be resumed from.
	again := connect(t, g, "user_1", late.hello.Cursor)
	again.untilEvent(all[11])
	again.untilEvent(other)
	wantIDs(t, again, append(slices.Clone(all[9:]), other)...)
}
