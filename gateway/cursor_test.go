package gateway

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/wire"
)

// forged returns a cursor's text with what a client likes.
func forged(issued time.Time, next ...int64) string {
	return (&event.Cursor{Topic: testTopic, Issued: issued, Addr: event.Address{Gateway: 1, Seat: 1}, Next: next}).String()
}

// What a cursor can't say truly is refused at once, for good, and the same wherever it comes in.
func TestForgedCursors(t *testing.T) {
	w, _ := durableWorld(t)
	g := w.gateway(Config{})
	now := time.Now()
	past := time.Unix(0, 0)
	c := g.durable(t, "user_1")
	for _, tt := range []struct{ name, cursor, detail string }{
		{"an hour ahead", forged(now.Add(time.Hour), 0, 0), "in the future"},
		{"the year 9999", forged(time.Unix(253402300799, 0), 0, 0), "in the future"},
		{"the year 36812", forged(time.Unix(1<<40, 0), 0, 0), "malformed"},
		{"no offset", forged(now, math.MaxInt64, 0), "malformed"},
		{"the last offset", forged(now, math.MaxInt64-1, 0), "no events yet"},
		{"the last offset, second", forged(past, 0, math.MaxInt64-1), "no events yet"},
		{"far ahead", forged(past, 1<<40+1000, 0), "no events yet"},
	} {
		resp, problem := askRaw(t, g, request("user_2", tt.cursor))
		if detail, _ := problem["detail"].(string); resp.StatusCode != 400 || !strings.Contains(detail, tt.detail) {
			t.Errorf("%s: handshake: %d %v, want %q", tt.name, resp.StatusCode, problem, tt.detail)
		}
		resp, problem = askRaw(t, g, sseRequest("subscriber_id=user_2", "Last-Event-ID: "+tt.cursor))
		if detail, _ := problem["detail"].(string); resp.StatusCode != 400 || !strings.Contains(detail, tt.detail) {
			t.Errorf("%s: stream: %d %v, want %q", tt.name, resp.StatusCode, problem, tt.detail)
		}
		c.ack(tt.cursor)
		if m := c.untilType(wire.Error); m.Code != "bad_ack" || !strings.Contains(m.Text, tt.detail) {
			t.Errorf("%s: acknowledged: %+v, want %q", tt.name, m, tt.detail)
		}
	}
	c.untilEvent(w.publish(0, "user_1"))
}

// Clocks of gateways differ, and those who come from another one are let in.
func TestCursorOfAnotherClock(t *testing.T) {
	w := newWorld(t, 1).replayed()
	w.beats()
	g := w.gateway(Config{})
	for _, issued := range []time.Time{time.Unix(0, 0), time.Now().Add(time.Minute), time.Now().Add(event.MaxClockAhead - time.Minute)} {
		if resp, problem := askRaw(t, g, request("user_1", forged(issued, 0))); resp.StatusCode != 101 {
			t.Errorf("issued at %v: %d %v", issued, resp.StatusCode, problem)
		}
	}
}

// When something was acknowledged the gateway's clock says, whatever the cursor does.
func TestAckedAtIsOurTime(t *testing.T) {
	for _, issued := range []time.Time{time.Unix(0, 0), time.Now().Add(5 * time.Minute)} {
		w, acks := durableWorld(t)
		g := w.gateway(Config{})
		before := time.Now()
		cursor := forged(issued, 0, 0)
		c := connectURL(t, g.url("user_1", cursor)+"&durable=true", "user_1")
		check := func(what string) {
			t.Helper()
			a, err := acks.Memory.Acked(t.Context(), "user_1")
			if err != nil || a.At.Before(before) || a.At.After(time.Now()) {
				t.Errorf("issued %v, %s: acknowledged at %v, %v; want a time since %v", issued, what, a.At, err, before)
			}
		}
		check("at the first connect")
		c.ack(cursor)
		c.untilType(wire.Acked)
		check("acknowledged")
	}
}

// A durable subscriber whose acknowledgement nobody can go on from is told so.
func TestForgedAckInTheDatabase(t *testing.T) {
	w, acks := durableWorld(t)
	g := w.gateway(Config{})
	for _, next := range []int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 41} {
		a := event.Ack{Subscriber: "user_1", At: time.Now(), Cursor: event.Cursor{Topic: testTopic, Next: []int64{next, 0}}}
		acks.Memory.ForgetAck(context.Background(), "user_1")
		if err := acks.Memory.SaveAcks(t.Context(), []event.Ack{a}); err != nil {
			t.Fatal(err)
		}
		resp, problem := askRaw(t, g, strings.Replace(request("user_1", ""), "/ws?", "/ws?durable=true&", 1))
		if resp.StatusCode != 400 || problem["type"] != "urn:eventstream:problem:bad-ack" {
			t.Errorf("offset %d: %d %v", next, resp.StatusCode, problem)
		}
	}
	noneOpen(t, g)
}
