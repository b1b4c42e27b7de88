package lane

import (
	"context"
	"errors"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/bubble"
)

// A store that goes back to a checkpoint has lost what was written since, as a
// whole, and goes on from there with IDs that nobody has seen.
func TestRollback(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, m, id := context.Background(), NewMemory(), event.TopicID{1}
		const g = event.Gateway(7)
		seat := func(s event.Seat, seq uint64) ControlID {
			at, err := m.Announce(ctx, Announcement{Gateway: g, Seq: seq, TTL: time.Minute, Joined: []Seated{{s, "user_1"}}})
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		add := func(expect int64) int64 {
			next, err := m.Append(ctx, Append{Topic: id, Expect: expect, Next: expect + 1, Entry: []byte{1}, Last: expect})
			if err != nil {
				t.Fatal(err)
			}
			return next
		}
		m.Claim(ctx, Shard{}, 0, id, 0, 0)
		first := seat(1, 1)
		add(0)
		saved := m.Checkpoint()
		for range 2 { // the checkpoint stays what it was
			lost := seat(2, 2)
			add(1)
			m.Rollback(saved)
			if got := add(2); got != 1 {
				t.Errorf("lane after the rollback: at %d, want 1", got)
			}
			if _, ok, _ := m.Occupant(ctx, event.Address{Gateway: g, Seat: 2}); ok {
				t.Error("the lost seat is taken")
			}
			if beat, _ := m.Heartbeat(ctx, g, time.Minute); beat.Seq != 1 {
				t.Errorf("the gateway's sequence: %d, want 1", beat.Seq)
			}
			if end, _ := m.ControlEnd(ctx); end != first {
				t.Errorf("control stream ends at %s, want %s", end, first)
			}
			if again := seat(3, 2); again.Compare(lost) <= 0 {
				t.Errorf("change %s came after %s, which was lost", again, lost)
			}
			if _, _, err := m.ControlSince(ctx, lost); !errors.Is(err, ErrControlLost) {
				t.Errorf("changes since the lost one: got %v, want ErrControlLost", err)
			}
		}
		if entries, _ := m.read(Shard{}, 0, 0, 10); len(entries) != 1 || entries[0].Last != 0 {
			t.Errorf("entries: got %v, want the one from before", entries)
		}
	})
}
