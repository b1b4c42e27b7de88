package judge

import (
	"cmp"
	"fmt"
	"slices"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/wire"
)

// Kinds of violations.
const (
	Lost     = "lost"     // an event that was due did not come
	Extra    = "extra"    // an event came that no filter can have matched
	Repeated = "repeated" // an event came twice in a connection, or again after a cursor that was past it
	Again    = "again"    // an event came again to a client that had said that it has it
	Disorder = "disorder" // events of a partition came out of order
	Late     = "late"     // an event came after a cursor that was past it: who left in between would have lost it
	Unasked  = "gap"      // a gap was told of without a reason that is allowed
)

// Violation is one broken promise.
type Violation struct {
	Kind       string
	Client     string
	Subscriber string
	N          int      // number of the event; -1 if it is about none
	ID         event.ID // of the event
	At         Seq      // when it came, or should have
	Context    string   // what the client was doing
}

func (v Violation) String() string {
	about := ""
	if v.N >= 0 {
		about = fmt.Sprintf(" event %d, id %s,", v.N, v.ID)
	}
	return fmt.Sprintf("%s: client %s, subscriber %s,%s at %d: %s", v.Kind, v.Client, v.Subscriber, about, v.At, v.Context)
}

// Verdict is what came of it all.
type Verdict struct {
	Conns   int // connections that were tried
	Checked int // pairs of event and client where it was due or came
	Seams   int // repeats that are allowed: events above the cursor that was resumed from
	Excused int // events in gaps that were allowed

	Lost, Extra, Repeated int
	Violations            []Violation // all of them, by time
}

// Case is all that was seen.
type Case struct {
	Events  *Events
	Chains  []*Chain
	Allowed func(g Gap) bool // tells whether a client may be told of a gap; none is if it is nil
}

// Judge returns the verdict on what was seen up to now.
func (c *Case) Judge() Verdict {
	var v Verdict
	t := newTrial(c)
	for _, chain := range c.Chains {
		t.chain(&v, chain)
	}
	slices.SortStableFunc(v.Violations, func(a, b Violation) int { return cmp.Compare(a.At, b.At) })
	for _, x := range v.Violations {
		switch x.Kind {
		case Lost:
			v.Lost++
		case Extra:
			v.Extra++
		case Repeated, Again:
			v.Repeated++
		}
	}
	return v
}

// trial judges one Case.
type trial struct {
	*Case
	events  []Event
	matches map[page]*[pageSize]verdict
}

// page is some events in a row, with one filter. In an hour a filter is in force for a small part of the
// events, and is tried on these alone.
type page struct {
	spec *filter.Spec
	n    int // of events, divided by pageSize
}

const pageSize = 1024

// verdict is whether a filter matches an event; zero as long as it was not tried.
type verdict int8

func newTrial(c *Case) *trial {
	return &trial{Case: c, events: c.Events.snapshot(), matches: make(map[page]*[pageSize]verdict)}
}

// match tells whether the filter, nil for none, matches the event, by the plain
// definition.
func (t *trial) match(n int) func(*filter.Spec) bool {
	return func(s *filter.Spec) bool {
		if s == nil {
			return false
		}
		p := page{s, n / pageSize}
		if t.matches[p] == nil {
			t.matches[p] = new([pageSize]verdict)
		}
		known := &t.matches[p][n%pageSize]
		if *known == 0 {
			*known = -1
			if s.Match(t.events[n].decoded) {
				*known = 1
			}
		}
		return *known > 0
	}
}

// chain judges one client.
func (t *trial) chain(v *Verdict, c *Chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := make(map[int]bool)
	var excused ranges
	for _, n := range c.conns {
		t.conn(v, n, got)
		excused = append(excused, t.gaps(v, n)...)
	}
	t.due(v, c, got, excused)
	v.Checked += len(got)
	v.Conns += len(c.conns)
}

// conn judges what came over one connection.
func (t *trial) conn(v *Verdict, n *Conn, got map[int]bool) {
	var past, has []int64 // positions of the last cursor, and what the client said to have
	if n.used != nil && (n.hello == 0 || n.resumed) {
		past, has = n.used.Next, n.has
	}
	newest := make(map[int32]int64)
	here := make(map[event.ID]bool)
	for _, i := range n.seen {
		if i.cursor != nil {
			past = highest(past, i.cursor.Next)
			continue
		}
		before, any := newest[i.id.Partition]
		switch {
		case here[i.id]:
			t.found(v, n, Repeated, i, "it came before in this connection")
		case below(has, i.id) && got[i.n]:
			t.found(v, n, Again, i, "it came before, and the client said so")
		case below(has, i.id):
			t.found(v, n, Late, i, "the client said that it has it, by a later one of its partition")
		case below(past, i.id) && got[i.n]:
			t.found(v, n, Repeated, i, "it came before, and the last cursor is past it")
		case below(past, i.id):
			t.found(v, n, Late, i, "the last cursor is past it")
		case any && i.id.Offset < before:
			t.found(v, n, Disorder, i, fmt.Sprintf("it came after offset %d", before))
		case got[i.n]:
			v.Seams++
		}
		newest[i.id.Partition] = max(before, i.id.Offset)
		here[i.id] = true
		t.came(v, n, i)
		if i.n >= 0 {
			got[i.n] = true
		}
	}
}

// came judges whether an event that came may have.
func (t *trial) came(v *Verdict, n *Conn, i item) {
	if i.n < 0 || i.n >= len(t.events) {
		t.found(v, n, Extra, i, "nobody produced it like this")
		return
	}
	e := &t.events[i.n]
	if e.Acked > 0 && e.ID != i.id {
		t.found(v, n, Extra, i, fmt.Sprintf("Kafka acknowledged it as %s", e.ID))
		return
	}
	if !n.of.Filters.may(e.Sent, i.at, t.match(i.n)) {
		t.found(v, n, Extra, i, "no filter that was in force since it was produced matches it")
	}
}

// gaps judges the gaps that a connection was told of, and returns the allowed ones.
func (t *trial) gaps(v *Verdict, n *Conn) ranges {
	var excused ranges
	for _, g := range n.allGaps() {
		if t.tooLarge(n.of, g) {
			excused = append(excused, g.Missing...)
			continue
		}
		if t.Allowed == nil || !t.Allowed(g) {
			t.found(v, n, Unasked, item{at: g.At, n: -1}, "told of a gap: "+g.Reason)
			continue
		}
		switch {
		case len(g.Missing) > 0:
			excused = append(excused, g.Missing...)
		case g.From != nil && g.To != nil:
			excused = append(excused, between(g.From.Next, g.To.Next)...)
		}
	}
	return excused
}

// around is the most that a message has beside the value of one event.
const around = 256

// tooLarge reports whether the gap is of an event that the client said it can't take.
func (t *trial) tooLarge(c *Chain, g Gap) bool {
	if g.Reason != wire.GapTooLarge || len(g.Missing) != 1 || g.Missing[0].To != g.Missing[0].From+1 {
		return false
	}
	id := event.ID{Partition: g.Missing[0].Partition, Offset: g.Missing[0].From}
	return slices.ContainsFunc(t.events, func(e Event) bool {
		return len(e.Value)+around > c.Takes && c.Takes > 0 && (e.ID == id || e.Acked == 0)
	})
}

// allGaps are those that the connection was told of. A hello that does not
// resume what it should have tells of one too, if it was all that came.
func (n *Conn) allGaps() []Gap {
	if len(n.gaps) > 0 || n.hello == 0 || n.used == nil || n.resumed || len(between(n.used.Next, n.start.Next)) == 0 {
		return n.gaps
	}
	return []Gap{{At: n.hello, Reason: "not resumed, and no word why", From: n.used, To: n.start}}
}

// due judges what should have come: what was produced after the client's first
// hello and matched by its filters whatever came of what was under way.
func (t *trial) due(v *Verdict, c *Chain, got map[int]bool, excused ranges) {
	began := c.beganLocked()
	passed := c.passedLocked()
	first, _ := slices.BinarySearchFunc(t.events, began, func(e Event, at Seq) int { return cmp.Compare(e.Sent, at) })
	for k := first; k < len(t.events); k++ {
		e := &t.events[k]
		if c.left > 0 && e.Sent > c.left {
			break // no cursor was past it
		}
		if e.Acked == 0 || e.Lost || got[e.N] {
			continue
		}
		at, n := passed.when(e.ID)
		if n == nil && c.left > 0 {
			continue
		}
		if !c.Filters.must(e.Sent, max(at, e.Sent), t.match(e.N)) {
			continue
		}
		if excused.contains(e.ID) {
			v.Excused++
			continue
		}
		v.Checked++
		if n == nil {
			n = c.conns[len(c.conns)-1]
			t.found(v, n, Lost, item{at: e.Sent, id: e.ID, n: e.N}, "it has not come, and no cursor is past it yet")
			continue
		}
		t.found(v, n, Lost, item{at: at, id: e.ID, n: e.N}, fmt.Sprintf("produced at %d; a cursor is past it", e.Sent))
	}
}

func (t *trial) found(v *Verdict, n *Conn, kind string, i item, why string) {
	v.Violations = append(v.Violations, Violation{
		Kind: kind, Client: n.of.Name, Subscriber: n.of.Subscriber, N: i.n, ID: i.id, At: i.at,
		Context: why + "; " + n.contextLocked(i.at),
	})
}

// contextLocked tells what the client was doing.
func (n *Conn) contextLocked(at Seq) string {
	s := fmt.Sprintf("on %s since %d", n.gateway, n.dialed)
	switch {
	case n.used == nil:
		s += " without a cursor"
	case n.resumed:
		s += fmt.Sprintf(" resumed from %v", n.used.Next)
	default:
		s += fmt.Sprintf(" not resumed from %v", n.used.Next)
	}
	const shown = 3
	first, _ := slices.BinarySearchFunc(n.did, at, func(d did, at Seq) int { return cmp.Compare(d.at, at) })
	for _, d := range n.did[max(0, first-shown):min(len(n.did), first+1)] {
		s += fmt.Sprintf(", %s at %d", d.what, d.at)
	}
	return s
}

// beganLocked is when the client first saw hello, or since when it asked for events then.
func (c *Chain) beganLocked() Seq {
	for _, n := range c.conns {
		if n.hello > 0 {
			return cmp.Or(c.since, n.hello)
		}
	}
	return Never
}

// ranges are offsets, by partition.
type ranges []wire.Missing

func (r ranges) contains(id event.ID) bool {
	return slices.ContainsFunc(r, func(m wire.Missing) bool {
		return m.Partition == id.Partition && m.From <= id.Offset && id.Offset < m.To
	})
}

// between returns what lies between two positions. A partition that only the
// second has is wanted from its start.
func between(from, to []int64) ranges {
	var r ranges
	for p, end := range to {
		var start int64
		if p < len(from) {
			start = from[p]
		}
		if start < end {
			r = append(r, wire.Missing{Partition: int32(p), From: start, To: end})
		}
	}
	return r
}

// passed tells when a client was known to be past an offset.
type passed map[int32][]mark

// mark is a position that was higher than all before.
type mark struct {
	at   Seq
	next int64
	conn *Conn
}

// passedLocked collects when the client's cursors passed what.
func (c *Chain) passedLocked() passed {
	p := make(passed)
	for _, n := range c.conns {
		p.add(n, n.hello, n.start)
		for _, i := range n.seen {
			p.add(n, i.at, i.cursor)
		}
	}
	return p
}

func (p passed) add(n *Conn, at Seq, c *event.Cursor) {
	if c == nil {
		return
	}
	for k, next := range c.Next {
		marks := p[int32(k)]
		if len(marks) == 0 || marks[len(marks)-1].next < next {
			p[int32(k)] = append(marks, mark{at, next, n})
		}
	}
}

// when returns when the client was past the event, and over which connection;
// Never and nil if it is not.
func (p passed) when(id event.ID) (Seq, *Conn) {
	marks := p[id.Partition]
	i, _ := slices.BinarySearchFunc(marks, id.Offset+1, func(m mark, next int64) int { return cmp.Compare(m.next, next) })
	if i == len(marks) {
		return Never, nil
	}
	return marks[i].at, marks[i].conn
}

// below reports whether positions are past the event.
func below(next []int64, id event.ID) bool {
	return int(id.Partition) < len(next) && id.Offset < next[id.Partition]
}

// highest returns the higher position of each partition.
func highest(a, b []int64) []int64 {
	out := slices.Clone(b)
	for i := range min(len(a), len(b)) {
		out[i] = max(a[i], b[i])
	}
	return out
}
