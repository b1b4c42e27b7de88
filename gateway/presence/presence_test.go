package presence

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"eventstream/event"
	"eventstream/internal/bubble"
	"eventstream/lane"
)

// flaky is a store that refuses announcements while fails is set.
type flaky struct {
	*lane.Memory
	fails bool
}

var errFlaky = errors.New("the store has its moods")

func (f *flaky) Announce(ctx context.Context, a lane.Announcement) (lane.ControlID, error) {
	if f.fails {
		return lane.ControlID{}, errFlaky
	}
	return f.Memory.Announce(ctx, a)
}

// What was addressed to a seat while it could be resumed from goes on being so for
// a while, also if the store could not be told in time that it can't any more.
func TestSeatsAreForgottenLater(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := &flaky{Memory: lane.NewMemory()}
		p := newTest(store, Config{ResumeWindow: time.Minute})
		forgotten := func() int {
			changes, _, err := store.ControlSince(t.Context(), lane.ControlID{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, c := range changes {
				n += len(c.Forgot)
			}
			return n
		}
		seat, _ := p.Reserve("user_1")
		p.Left(seat, time.Now())
		store.fails = true
		time.Sleep(time.Minute + 2*ForgetMargin)
		if err := p.retire(t.Context()); !errors.Is(err, errFlaky) {
			t.Fatalf("retire: got %v, want %v", err, errFlaky)
		}
		store.fails = false
		for _, want := range []int{0, 1} {
			if err := p.retire(t.Context()); err != nil || forgotten() != want {
				t.Errorf("%d seats forgotten, %v; want %d", forgotten(), err, want)
			}
			time.Sleep(ForgetMargin + time.Second)
		}
	})
}

// A gateway gives up its seats while a client joins at one of them that its subscriber
// had before: other gateways must not take older cursors for good that name it.
func TestSeatGivenUpWhileJoining(t *testing.T) {
	store := lane.NewMemory()
	var gaveUp event.Seat
	p := newTest(store, Config{ResumeWindow: time.Minute, GiveUp: func(upTo event.Seat) { gaveUp = upTo }})
	before, _ := p.Reserve("user_1")
	p.Left(before, time.Now())
	seat, _ := p.Reserve("user_1")
	if seat != before {
		t.Fatalf("seat %d, want %d again", seat, before)
	}
	done := make(chan answer, 1)
	p.queue.add(request{t.Context(), lane.Seated{Seat: seat, Subscriber: "user_1"}, done})
	if p.giveUp(math.MaxUint32); gaveUp != math.MaxUint32 {
		t.Errorf("the seats up to %d are given up, want all", gaveUp)
	}
	if err := p.announceAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.welcome(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if a := <-done; !errors.Is(a.err, ErrSeatLost) {
		t.Errorf("announced: got %v, want %v", a.err, ErrSeatLost)
	}
	if got, ok, _ := store.Occupant(t.Context(), event.Address{Gateway: p.cfg.Gateway, Seat: seat}); ok {
		t.Errorf("the store says that the seat is %s's", got)
	}
}

// Whatever comes and goes, no two subscribers have had the same seat, nobody has one twice
// at the same time, and in the end nothing is left of them.
func TestSeats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newTest(mute{lane.NewMemory()}, Config{ResumeWindow: time.Hour, GiveUp: func(event.Seat) {}})
		owner := make(map[event.Seat]string)
		var open []event.Seat
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what < 5:
				subscriber := rapid.SampledFrom([]string{"ann", "bob", "eve"}).Draw(t, "subscriber")
				seat, err := p.Reserve(subscriber)
				if had, ok := owner[seat]; err != nil || ok && had != subscriber {
					t.Fatalf("%s is given seat %d of %q, %v", subscriber, seat, had, err)
				}
				for _, other := range open {
					if other == seat {
						t.Fatalf("seat %d is given out twice", seat)
					}
				}
				owner[seat], open = subscriber, append(open, seat)
				if got, ok := p.Occupant(seat); !ok || got != subscriber {
					t.Fatalf("seat %d is %q's, %t; want %s", seat, got, ok, subscriber)
				}
			case what < 8 && len(open) > 0:
				i := rapid.IntRange(0, len(open)-1).Draw(t, "leaves")
				p.Left(open[i], time.Now())
				open = append(open[:i], open[i+1:]...)
			case what == 8:
				p.seats.giveUp(event.Seat(rapid.IntRange(0, 4).Draw(t, "up to")))
			default:
				p.seats.expire(time.Now().Add(time.Second))
			}
		}
		for _, seat := range open {
			p.Left(seat, time.Now())
		}
		p.seats.expire(time.Now().Add(time.Second))
		if n := p.Seats() + p.seats.ended.Len() + len(p.seats.free); n > 0 {
			t.Fatalf("%d entries of seats are left", n)
		}
	})
}
