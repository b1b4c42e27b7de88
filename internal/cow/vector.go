// Package cow holds what copy-on-write structures share: one writer changes a
// structure while readers use snapshots of it, without locks.
//
// Every part of a structure carries the generation in which it was made. The
// writer changes a part of the current generation in place and copies one of an
// older generation first. A snapshot is the root as it is; whoever takes one
// begins a new generation, so that nothing below that root changes any more.
package cow

import "slices"

// Gen is a generation.
type Gen uint64

const (
	pageBits = 6
	pageLen  = 1 << pageBits
	pageMask = pageLen - 1
)

// Vector is a growing array. Its zero value is empty; a copy of it is a snapshot.
type Vector[T any] struct {
	top []*branch[T]
	gen Gen // of top
}

type branch[T any] struct {
	gen   Gen
	pages [pageLen]*page[T]
}

type page[T any] struct {
	gen   Gen
	items [pageLen]T
}

// At returns the item at i, nil if nothing near it was ever set. It is not to be
// changed.
func (v *Vector[T]) At(i uint32) *T {
	at := int(i >> (2 * pageBits))
	if at >= len(v.top) || v.top[at] == nil {
		return nil
	}
	p := v.top[at].pages[i>>pageBits&pageMask]
	if p == nil {
		return nil
	}
	return &p.items[i&pageMask]
}

// Own returns the item at i for the writer, who is in generation g, to change:
// the zero value if it is new. The Vector grows as needed.
func (v *Vector[T]) Own(g Gen, i uint32) *T {
	at := int(i >> (2 * pageBits))
	if v.gen != g {
		v.top, v.gen = slices.Clone(v.top), g
	}
	for at >= len(v.top) {
		v.top = append(v.top, nil)
	}
	b := own(&v.top[at], g, func(b *branch[T]) *Gen { return &b.gen })
	p := own(&b.pages[i>>pageBits&pageMask], g, func(p *page[T]) *Gen { return &p.gen })
	return &p.items[i&pageMask]
}

// own makes *at a part of generation g: itself, a copy, or a new one if it is nil.
func own[P any](at **P, g Gen, gen func(*P) *Gen) *P {
	switch {
	case *at == nil:
		*at = new(P)
	case *gen(*at) == g:
		return *at
	default:
		c := **at
		*at = &c
	}
	*gen(*at) = g
	return *at
}
