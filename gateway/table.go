package gateway

import "eventstream/event"

// table finds a shard's connections by seat. Seats only grow, so it is pages of
// consecutive seats; a page without connections is dropped.
type table struct {
	pages []*page
	live  int
}

const pageSize = 256

type page struct {
	conns [pageSize]*conn
	live  int
}

// get returns the connection in the seat, or nil.
func (t *table) get(seat event.Seat) *conn {
	i := int(seat) / pageSize
	if i >= len(t.pages) || t.pages[i] == nil {
		return nil
	}
	return t.pages[i].conns[seat%pageSize]
}

// set puts c into the seat; nil empties it.
func (t *table) set(seat event.Seat, c *conn) {
	i := int(seat) / pageSize
	for i >= len(t.pages) {
		t.pages = append(t.pages, nil)
	}
	if t.pages[i] == nil {
		t.pages[i] = &page{}
	}
	p := t.pages[i]
	had := p.conns[seat%pageSize] != nil
	p.conns[seat%pageSize] = c
	switch {
	case c != nil && !had:
		p.live++
		t.live++
	case c == nil && had:
		p.live--
		t.live--
	}
	if p.live == 0 {
		t.pages[i] = nil
	}
}

// each calls f with every connection. f may empty its seat.
func (t *table) each(f func(c *conn)) {
	for _, p := range t.pages {
		if p == nil {
			continue
		}
		for _, c := range p.conns {
			if c != nil {
				f(c)
			}
		}
	}
}
