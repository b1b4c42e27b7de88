package lane

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/internal/testenv"
)

const askWait = 20 * time.Second // nobody waits so long where all answer

// follows has a gateway, announced, follow orders until the function returned is
// called, which returns what FollowOrders does.
func follows(t *testing.T, s subject, g event.Gateway, do func(Order) Answer) (stop func() error) {
	t.Helper()
	must[ControlID](t)(s.Announce(t.Context(), Announcement{Gateway: g, Seq: 1, TTL: time.Minute}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.FollowOrders(ctx, g, do) }()
	testenv.Eventually(t, 10*time.Second, func() error {
		answers, silent, err := s.Ask(t.Context(), Order{Task: "nothing", Address: &event.Address{Gateway: g}}, askWait)
		if err != nil || len(answers) != 1 || len(silent) > 0 {
			return fmt.Errorf("answers %v, silent %v, %v", answers, silent, err)
		}
		return nil
	})
	stopped := false
	stop = func() error { stopped = true; cancel(); return <-done }
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	return stop
}

// asked returns the answers in the order of their gateways.
func asked(t *testing.T, s subject, o Order, wait time.Duration) (answers []Answer, silent []event.Gateway) {
	t.Helper()
	answers, silent, err := s.Ask(t.Context(), o, wait)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(answers, func(a, b Answer) int { return int(a.Gateway) - int(b.Gateway) })
	return answers, silent
}

func testOrders(t *testing.T, s subject) {
	if answers, silent := asked(t, s, Order{Task: TaskList}, askWait); answers != nil || silent != nil {
		t.Errorf("nobody follows: %v, %v", answers, silent)
	}
	heard := make(chan Order, 10)
	obey := func(seat event.Seat) func(Order) Answer {
		return func(o Order) Answer {
			if o.Task != "nothing" {
				o.ReplyTo = ""
				heard <- o
			}
			return Answer{Total: 7, Connections: []Connection{{Seat: seat, Subscriber: "käthe", Opened: 1, Heard: 2, Expires: 3}}}
		}
	}
	follows(t, s, 1, obey(10))
	follows(t, s, 2, obey(20))

	answers, silent := asked(t, s, Order{Task: TaskList, Subscriber: "käthe"}, askWait)
	want := []Answer{
		{1, []Connection{{10, "käthe", 1, 2, 3}}, 7},
		{2, []Connection{{20, "käthe", 1, 2, 3}}, 7},
	}
	if !reflect.DeepEqual(answers, want) || len(silent) > 0 {
		t.Errorf("answers %+v, silent %v, want %+v", answers, silent, want)
	}
	for range 2 {
		if o := <-heard; !reflect.DeepEqual(o, Order{Task: TaskList, Subscriber: "käthe"}) {
			t.Errorf("heard %+v", o)
		}
	}
	one := Order{Task: TaskClose, Address: &event.Address{Gateway: 2, Seat: 5}}
	if answers, silent := asked(t, s, one, askWait); !reflect.DeepEqual(answers, want[1:]) || len(silent) > 0 {
		t.Errorf("asked one: %+v, silent %v", answers, silent)
	}
	if o := <-heard; !reflect.DeepEqual(o, one) || len(heard) > 0 {
		t.Errorf("heard %+v, and %d more", o, len(heard))
	}
	told := Order{Task: TaskRevoke, Revocation: &auth.Revocation{Subscriber: "käthe", At: time.UnixMilli(5).UTC(), Expires: time.UnixMilli(6).UTC()}}
	if err := s.Tell(t.Context(), told); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := <-heard; !reflect.DeepEqual(o, told) {
			t.Errorf("heard %+v, want %+v", o, told)
		}
	}
}

// A gateway that does not answer holds up nobody for longer than it is waited for.
func testOrdersUnanswered(t *testing.T, s subject) {
	release := make(chan struct{})
	follows(t, s, 1, func(Order) Answer { return Answer{} })
	follows(t, s, 2, func(o Order) Answer {
		if o.Task == TaskList {
			<-release
		}
		return Answer{}
	})
	answers, silent := asked(t, s, Order{Task: TaskList}, time.Second)
	if len(answers) != 1 || answers[0].Gateway != 1 || !slices.Equal(silent, []event.Gateway{2}) {
		t.Errorf("answers %+v, silent %v", answers, silent)
	}
	close(release)
	if answers, silent := asked(t, s, Order{Task: TaskList}, askWait); len(answers) != 2 || len(silent) > 0 {
		t.Errorf("later: answers %+v, silent %v", answers, silent)
	}
}

// Who has left is not waited for, and who comes back does not hear old orders.
func testOrdersEnd(t *testing.T, s subject) {
	stop := follows(t, s, 1, func(Order) Answer { return Answer{} })
	if err := stop(); err != nil {
		t.Errorf("FollowOrders = %v", err)
	}
	if answers, silent := asked(t, s, Order{Task: TaskList}, askWait); len(answers)+len(silent) > 0 {
		t.Errorf("answers %v, silent %v", answers, silent)
	}
	if err := s.Tell(t.Context(), Order{Task: TaskClose, Subscriber: "ada"}); err != nil {
		t.Fatal(err)
	}
	closed := make(chan Order, 10)
	follows(t, s, 1, func(o Order) Answer {
		if o.Task == TaskClose {
			closed <- o
		}
		return Answer{}
	})
	if len(closed) > 0 {
		t.Errorf("heard of %+v", <-closed)
	}
	s.wipe()
	must[ControlID](t)(s.Announce(t.Context(), Announcement{Gateway: 1, Seq: 1, TTL: time.Minute}))
	testenv.Eventually(t, 10*time.Second, func() error {
		if answers, _ := asked(t, s, Order{Task: TaskList}, askWait); len(answers) != 1 {
			return fmt.Errorf("after a wipe: %v", answers)
		}
		return nil
	})
}
