package event

import (
	"slices"
	"time"
)

// Ack says how far a subscriber has acknowledged its events: everything before
// Cursor is dealt with. It is what a durable subscriber resumes from when it
// comes without a cursor.
type Ack struct {
	Subscriber string
	Cursor     Cursor
	At         time.Time // of the last acknowledgement
}

// Merge returns what holds when b is acknowledged after a, by the same
// subscriber: in no partition it goes back. Where to resume is b's, and so is
// everything if b is of another topic.
func (a Ack) Merge(b Ack) Ack {
	next := slices.Clone(b.Cursor.Next)
	if a.Cursor.Topic == b.Cursor.Topic {
		next = furthest(a.Cursor.Next, b.Cursor.Next)
	}
	if b.At.Before(a.At) {
		b.At = a.At // clocks of two gateways
	}
	b.Cursor.Next = next
	return b
}

// Heal returns a with a time that can be, where it has one from the future: earlier
// versions took such times from their clients.
func (a Ack) Heal(now time.Time) Ack {
	if a.At.After(now.Add(MaxClockAhead)) {
		a.At = now
	}
	if a.Cursor.Issued.After(now.Add(MaxClockAhead)) {
		a.Cursor.Issued = now.Truncate(time.Second)
	}
	return a
}

// furthest returns the greater of a and b, element by element.
func furthest(a, b []int64) []int64 {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i, n := range b {
		out[i] = max(out[i], n)
	}
	return out
}

// Behind returns how many offsets of each partition lie between the cursor and
// next, where a partition that the cursor doesn't know begins at 0. They are
// offsets of the topic: whether there is an event for the cursor's owner in
// them is not said.
func (c *Cursor) Behind(next []int64) []int64 {
	behind := make([]int64, len(next))
	for p, n := range next {
		if p < len(c.Next) {
			n -= c.Next[p]
		}
		behind[p] = max(n, 0)
	}
	return behind
}

// AckTotals sums up all acknowledgements.
type AckTotals struct {
	Subscribers int64
	Oldest      time.Time // when the one who is silent longest acknowledged last; zero if there is none
	MaxBehind   int64     // offsets that the slowest one is behind, see Cursor.Behind
}
