package gateway

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/wire"
)

// A client asks for messages that it can take, and goes on past an event that it can't.
func TestMaxMessage(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	for _, bad := range []string{"0", "1023", "-1", "x", "1e6", "67108865", "99999999999999999999"} {
		resp, problem := askRaw(t, g, strings.Replace(request("user_1", ""), "?", "?max_message="+bad+"&", 1))
		if detail, _ := problem["detail"].(string); resp.StatusCode != http.StatusBadRequest || !strings.Contains(detail, "from 1024 to 67108864") {
			t.Errorf("max_message=%s: %d %v", bad, resp.StatusCode, problem)
		}
	}
	c := connectURL(t, g.url("user_1", "")+"&max_message=2048", "user_1")
	first, large, second := w.publish(0, "user_1"), w.publishSized(0, 3000, "user_1"), w.publish(0, "user_1")
	gap := c.untilType(wire.Gap)
	if id, _ := event.ParseID(large); gap.Reason != wire.GapTooLarge || !slices.Equal(gap.Missing, []wire.Missing{{From: id.Offset, To: id.Offset + 1}}) {
		t.Errorf("got %+v, want that %s is too large", gap, large)
	}
	c.untilEvent(second)
	wantIDs(t, c, first, second)
	// It resumes from before, and is told the same again.
	r := connectURL(t, g.url("user_1", c.hello.Cursor)+"&max_message=2048", "user_1")
	if gap := r.untilType(wire.Gap); gap.Reason != wire.GapTooLarge {
		t.Errorf("after a resume: %+v", gap)
	}
	r.untilEvent(second)
	wantIDs(t, r, first, second)
}

// The cursor follows the last events of a burst: a client that keeps it does not get
// seconds of them again.
func TestCursorAfterBurst(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := connect(t, g, "user_1", "")
	var last string
	for range 20 {
		last = w.publish(0, "user_1")
		c.untilEvent(last)
	}
	id, _ := event.ParseID(last)
	c.until("a cursor past the last event, long before the heartbeat", func(wire.Message) bool { return nextOf(t, c.cursor)[0] > id.Offset })
}
