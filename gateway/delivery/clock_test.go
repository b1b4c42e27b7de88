package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"eventstream/gateway/uptime"
)

// Steps of the wall clock, in whatever direction, end no connection but those whose
// token ends, and give no quiet client more or fewer messages.
func TestClockSteps(t *testing.T) {
	b := newBench(t, Config{Heartbeat: 10})
	rapid.Check(t, func(rt *rapid.T) {
		c, f := b.join(nil)
		b.openConn(c)
		steady, g := b.join(nil)
		b.openConn(steady)
		expires := rapid.Int64Range(-7200, 7200).Draw(rt, "expires")
		up, wall := uptime.Seconds(), time.Now().Unix()
		c.lastPing, c.lastCursor, steady.lastPing, steady.lastCursor = up, up, up, up
		c.expires.Store(wall + expires)
		for range rapid.IntRange(1, 40).Draw(rt, "seconds") {
			up++
			wall += rapid.SampledFrom([]int64{1, 1, 1, 120, -120, 3600, -3600}).Draw(rt, "step")
			c.heard.Store(up)
			steady.heard.Store(up)
			ended := c.state >= closing
			b.sweep(up, wall)
			if want := ended || wall >= c.expires.Load(); c.state >= closing != want {
				rt.Fatalf("token of %d at %d: closing %t, want %t", c.expires.Load(), wall, !want, want)
			}
			if steady.state != live || g.closed {
				rt.Fatalf("a connection without a token was closed at %d", wall)
			}
		}
		seconds := int(up - uptime.Seconds())
		if _, ops := g.messages(t); len(ops) > 2+2*(seconds/10+1) {
			rt.Fatalf("%d frames in %d s", len(ops), seconds)
		}
		f.closed, g.closed = true, true
		closed{c}.apply(b.worker)
		closed{steady}.apply(b.worker)
	})
}

// A connection from which nothing is heard ends by uptime, whatever the wall clock says.
func TestDeadByUptime(t *testing.T) {
	b := newBench(t, Config{Heartbeat: 10})
	for _, step := range []int64{0, -7200} {
		c, f := b.join(nil)
		b.openConn(c)
		heard, wall := c.heard.Load(), time.Now().Unix()
		b.sweep(heard+b.cfg.DeadAfter, wall+step)
		if f.closed {
			t.Errorf("step of %d s: cut off too early", step)
		}
		b.sweep(heard+b.cfg.DeadAfter+1, wall+step)
		if !f.closed {
			t.Errorf("step of %d s: not cut off", step)
		}
		closed{c}.apply(b.worker)
	}
}
