package lane

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/internal/testenv"
)

// seatsAt collects what Seats passes.
func seatsAt(t testing.TB, s store, g event.Gateway) map[event.Seat]string {
	t.Helper()
	out := make(map[event.Seat]string)
	err := s.Seats(t.Context(), g, func(page []Seated) error {
		for _, seated := range page {
			out[seated.Seat] = seated.Subscriber
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func testPresence(t *testing.T, s subject) {
	ctx := t.Context()
	const g = event.Gateway(0xfeed)
	if got := seatsAt(t, s, g); len(got) > 0 {
		t.Errorf("Seats of nobody = %v", got)
	}
	check(t, "Heartbeat", must[Beat](t)(s.Heartbeat(ctx, g, time.Minute)), Beat{})
	check(t, "gateways", len(must[[]event.Gateway](t)(s.Gateways(ctx))), 0)
	epoch, _, err := s.Epoch(ctx)
	if err != nil {
		t.Fatal(err)
	}

	a := Announcement{Gateway: g, Seq: 1, TTL: time.Minute, Joined: []Seated{{1, "ann"}, {2, "bob"}, {1<<32 - 1, ""}}}
	one := must[ControlID](t)(s.Announce(ctx, a))
	a = Announcement{Gateway: g, Seq: 2, TTL: time.Minute, Joined: []Seated{{3, "ann"}}, Vacated: []event.Seat{2, 9}, Forgot: []event.Seat{2}}
	two := must[ControlID](t)(s.Announce(ctx, a))
	three := must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: g, Seq: 3, TTL: time.Minute}))
	check(t, "ID of an announcement with nothing to tell", three, ControlID{})
	check(t, "Heartbeat", must[Beat](t)(s.Heartbeat(ctx, g, time.Minute)), Beat{Epoch: epoch, Seq: 3})

	want := []Change{
		{ID: one, Gateway: g, Joined: []Seated{{1, "ann"}, {2, "bob"}, {1<<32 - 1, ""}}},
		{ID: two, Gateway: g, Joined: []Seated{{3, "ann"}}, Forgot: []event.Seat{2}},
	}
	if got, _, err := s.ControlSince(ctx, ControlID{}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ControlSince = %+v, %v; want %+v", got, err, want)
	}
	if got := must[[]event.Gateway](t)(s.Gateways(ctx)); !reflect.DeepEqual(got, []event.Gateway{g}) {
		t.Errorf("Gateways = %v", got)
	}
	seats := map[event.Seat]string{1: "ann", 3: "ann", 1<<32 - 1: ""}
	if got := seatsAt(t, s, g); !reflect.DeepEqual(got, seats) {
		t.Errorf("Seats = %v, want %v", got, seats)
	}
	for seat := range event.Seat(5) {
		name, ok := seats[seat]
		got, found, err := s.Occupant(ctx, event.Address{Gateway: g, Seat: seat})
		if got != name || found != ok || err != nil {
			t.Errorf("Occupant of %d = %q, %t, %v; want %q, %t", seat, got, found, err, name, ok)
		}
	}
	want2 := errors.New("full")
	if err := s.Seats(ctx, g, func([]Seated) error { return want2 }); !errors.Is(err, want2) {
		t.Errorf("Seats = %v, want the error of sink", err)
	}
}

func testPresenceExpires(t *testing.T, s subject) {
	ctx := t.Context()
	must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: 1, Seq: 1, TTL: time.Minute, Joined: []Seated{{1, "ann"}}}))
	must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: 2, Seq: 1, TTL: time.Minute, Joined: []Seated{{1, "bob"}}}))
	check(t, "seq", must[Beat](t)(s.Heartbeat(ctx, 2, time.Millisecond)).Seq, 1)
	testenv.Eventually(t, 10*time.Second, func() error {
		if got := must[[]event.Gateway](t)(s.Gateways(ctx)); !reflect.DeepEqual(got, []event.Gateway{1}) {
			return fmt.Errorf("gateways = %v", got)
		}
		return nil
	})
	check(t, "seq", must[Beat](t)(s.Heartbeat(ctx, 2, time.Minute)).Seq, 0)
	if got := seatsAt(t, s, 2); len(got) > 0 {
		t.Errorf("Seats = %v", got)
	}
	if _, ok, err := s.Occupant(ctx, event.Address{Gateway: 2, Seat: 1}); ok || err != nil {
		t.Errorf("Occupant = %t, %v", ok, err)
	}
	// It comes back.
	must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: 2, Seq: 2, TTL: time.Minute, All: true, Joined: []Seated{{1, "bob"}}}))
	check(t, "gateways", len(must[[]event.Gateway](t)(s.Gateways(ctx))), 2)
}

func testPresenceForgotten(t *testing.T, s subject) {
	announce := func(seq uint64, all bool) error {
		a := Announcement{Gateway: 1, Seq: seq, All: all, TTL: time.Minute, Joined: []Seated{{event.Seat(seq), "x"}}}
		id, err := s.Announce(t.Context(), a)
		if id == (ControlID{}) {
			t.Errorf("announcement %d was not made: %v", seq, err)
		}
		return err
	}
	steps := []struct {
		seq  uint64
		all  bool
		lost bool // everything before
		want error
	}{
		{seq: 1},
		{seq: 2},
		{seq: 2}, // after a lost answer
		{seq: 3, lost: true, want: ErrForgotten},
		{seq: 4, all: true},
		{seq: 5},
		{seq: 6, lost: true, all: true},
		{seq: 8, want: ErrForgotten}, // 7 is not there
	}
	for _, tt := range steps {
		if tt.lost {
			s.wipe()
		}
		if err := announce(tt.seq, tt.all); !errors.Is(err, tt.want) {
			t.Errorf("announcement %d: %v, want %v", tt.seq, err, tt.want)
		}
	}
}

func testPresenceReplaced(t *testing.T, s subject) {
	ctx := t.Context()
	must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: 1, Seq: 1, TTL: time.Minute, Joined: []Seated{{1, "a"}, {2, "b"}}}))
	a := Announcement{Gateway: 1, Seq: 2, TTL: time.Minute, All: true, Joined: []Seated{{2, "b"}, {3, "c"}}}
	must[ControlID](t)(s.Announce(ctx, a))
	if got, want := seatsAt(t, s, 1), (map[event.Seat]string{2: "b", 3: "c"}); !reflect.DeepEqual(got, want) {
		t.Errorf("Seats = %v, want %v", got, want)
	}
	check(t, "seq", must[Beat](t)(s.Heartbeat(ctx, 1, time.Minute)).Seq, 2)
	must[ControlID](t)(s.Announce(ctx, Announcement{Gateway: 1, Seq: 3, TTL: time.Minute, All: true}))
	if got := seatsAt(t, s, 1); len(got) > 0 {
		t.Errorf("Seats = %v, want none", got)
	}
	check(t, "gateways", len(must[[]event.Gateway](t)(s.Gateways(ctx))), 1)
}

func testManySeats(t *testing.T, s subject) {
	const n = 2500
	a := Announcement{Gateway: 1, Seq: 1, TTL: time.Minute}
	for i := range event.Seat(n) {
		a.Joined = append(a.Joined, Seated{i, fmt.Sprint("user_", i)})
	}
	id := must[ControlID](t)(s.Announce(t.Context(), a))
	changes, last, err := s.ControlSince(t.Context(), ControlID{})
	if err != nil || last != id || len(changes) != n/maxEntrySeats {
		t.Fatalf("ControlSince = %d changes, %s, %v", len(changes), last, err)
	}
	var joined []Seated
	for _, c := range changes {
		joined = append(joined, c.Joined...)
	}
	if !reflect.DeepEqual(joined, a.Joined) {
		t.Error("the control stream tells of other seats than were announced")
	}
	seats := seatsAt(t, s, 1)
	for _, want := range a.Joined {
		check(t, fmt.Sprint("seat ", want.Seat), seats[want.Seat], want.Subscriber)
	}
	a = Announcement{Gateway: 1, Seq: 2, TTL: time.Minute}
	for i := range event.Seat(n - 1) {
		a.Vacated = append(a.Vacated, i)
	}
	must[ControlID](t)(s.Announce(t.Context(), a))
	check(t, "seats left", len(seatsAt(t, s, 1)), 1)
}

// Gateways announce while readers start: the end of the stream, then the hashes,
// then what comes after that end. No reader may miss a seat, whenever it starts.
func testBootstrap(t *testing.T, s subject) {
	const gateways, announcements, each, readers = 3, 40, 20, 2
	var writers, wg sync.WaitGroup
	for g := range event.Gateway(gateways) {
		writers.Go(func() {
			for i := range uint64(announcements) {
				from := i * each
				if i == announcements/2 {
					from = 0 // everything again, in the middle of it
				}
				a := Announcement{Gateway: g + 1, Seq: i + 1, TTL: time.Minute, All: from == 0}
				for seat := from; seat < (i+1)*each; seat++ {
					a.Joined = append(a.Joined, Seated{event.Seat(seat), "x"})
				}
				if _, err := s.Announce(context.Background(), a); err != nil {
					t.Error(err)
				}
			}
		})
	}
	announced := make(chan struct{})
	wg.Go(func() { writers.Wait(); close(announced) })
	for range readers {
		wg.Go(func() {
			for _, r := range startReaders(t, s, announced) {
				if err := r.catchUp(t.Context(), s); err != nil {
					t.Error(err)
				}
				check(t, fmt.Sprint("seats of a reader started at ", r.start), len(r.seen), gateways*announcements*each)
			}
		})
	}
	wg.Wait()
}

// seatReader knows seats as a filter service does.
type seatReader struct {
	start, last ControlID
	seen        map[event.Address]bool
}

// startReaders starts one after the other until everything is announced.
func startReaders(t *testing.T, s store, announced <-chan struct{}) (out []*seatReader) {
	for {
		select {
		case <-announced:
			return out
		default:
		}
		r := &seatReader{seen: make(map[event.Address]bool)}
		if err := r.bootstrap(t.Context(), s); err != nil {
			t.Error(err)
			return out
		}
		out = append(out, r)
	}
}

func (r *seatReader) bootstrap(ctx context.Context, s store) (err error) {
	if r.start, err = s.ControlEnd(ctx); err != nil {
		return err
	}
	r.last = r.start
	gateways, err := s.Gateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		err := s.Seats(ctx, g, func(page []Seated) error {
			r.join(g, page)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *seatReader) catchUp(ctx context.Context, s store) error {
	changes, last, err := s.ControlSince(ctx, r.last)
	for _, c := range changes {
		r.join(c.Gateway, c.Joined)
	}
	r.last = last
	return err
}

func (r *seatReader) join(g event.Gateway, seats []Seated) {
	for _, seated := range seats {
		r.seen[event.Address{Gateway: g, Seat: seated.Seat}] = true
	}
}
