package delivery

import (
	"eventstream/event"
)

// table finds a worker's connections by seat, in three steps. A part of it without
// connections is dropped, so that it is as large as the connections are many, not
// as the seats that there were.
type table struct {
	workers event.Seat // each has one of so many consecutive seats
	top     []*branch
}

type branch struct {
	pages [branchSize]*page
	live  int // pages
}

type page struct {
	conns [pageSize]*conn
	live  int
}

const (
	pageSize   = 256
	branchSize = 1024
)

// at returns where a seat is: in the top, its branch, and its page.
func (t *table) at(seat event.Seat) (top, branch, page int) {
	n := int(seat / t.workers)
	return n / pageSize / branchSize, n / pageSize % branchSize, n % pageSize
}

// get returns the connection in the seat, or nil.
func (t *table) get(seat event.Seat) *conn {
	top, i, at := t.at(seat)
	if top >= len(t.top) || t.top[top] == nil || t.top[top].pages[i] == nil {
		return nil
	}
	return t.top[top].pages[i].conns[at]
}

// set puts c into the seat; nil empties it.
func (t *table) set(seat event.Seat, c *conn) {
	if c == nil {
		t.empty(seat)
		return
	}
	top, i, at := t.at(seat)
	for top >= len(t.top) {
		t.top = append(t.top, nil)
	}
	if t.top[top] == nil {
		t.top[top] = &branch{}
	}
	b := t.top[top]
	if b.pages[i] == nil {
		b.pages[i] = &page{}
		b.live++
	}
	if b.pages[i].conns[at] == nil {
		b.pages[i].live++
	}
	b.pages[i].conns[at] = c
}

func (t *table) empty(seat event.Seat) {
	if t.get(seat) == nil {
		return
	}
	top, i, at := t.at(seat)
	b := t.top[top]
	b.pages[i].conns[at] = nil
	if b.pages[i].live--; b.pages[i].live > 0 {
		return
	}
	b.pages[i] = nil
	if b.live--; b.live == 0 {
		t.top[top] = nil
	}
}

// each calls f with every connection. f may empty its seat.
func (t *table) each(f func(c *conn)) {
	for _, b := range t.top {
		if b == nil {
			continue
		}
		for _, p := range &b.pages {
			if p == nil {
				continue
			}
			for _, c := range &p.conns {
				if c != nil {
					f(c)
				}
			}
		}
	}
}
