package gateway

import (
	"slices"

	"eventstream/event"
)

// table finds a shard's connections by seat. Seats only grow, so it is pages of
// consecutive seats; a page without connections is dropped.
type table struct {
	first int // number of pages[0]: those before were dropped
	pages []*page
}

const pageSize = 256

type page struct {
	conns [pageSize]*conn
	live  int
}

// get returns the connection in the seat, or nil.
func (t *table) get(seat event.Seat) *conn {
	i := int(seat)/pageSize - t.first
	if i < 0 || i >= len(t.pages) || t.pages[i] == nil {
		return nil
	}
	return t.pages[i].conns[seat%pageSize]
}

// set puts c into the seat; nil empties it.
func (t *table) set(seat event.Seat, c *conn) {
	if len(t.pages) == 0 {
		t.first = int(seat) / pageSize
	}
	i := int(seat)/pageSize - t.first
	if i < 0 && c == nil {
		return
	}
	if i < 0 { // handshakes overtake each other, so a page may have gone too early
		t.pages = slices.Insert(t.pages, 0, make([]*page, -i)...)
		t.first, i = t.first+i, 0
	}
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
	case c == nil && had:
		p.live--
	}
	if p.live > 0 {
		return
	}
	t.pages[i] = nil
	for len(t.pages) > 0 && t.pages[0] == nil {
		t.pages = t.pages[1:]
		t.first++
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
