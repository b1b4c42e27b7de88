package lane

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/binread"
)

// An entry of the control stream has one field, whose name says what it holds:
//
//	f  a filter.Change as JSON
//	b  empty: many filters changed at once, and the filter store tells which
//	s  seats, all numbers uvarint:
//
//	version 1 | gateway 8 bytes
//	number of joined | for each: seat | length of subscriber | subscriber
//	number of forgotten | for each: seat
const (
	filterField = "f"
	bulkField   = "b"
	seatsField  = "s"

	changeVersion = 1
)

// maxEntrySeats bounds an entry of the control stream to some kilobytes: a
// reader fetches the last one again each time it asks for more.
const maxEntrySeats = 500

// errChange reports an entry of the control stream that can't be decoded.
var errChange = errors.New("malformed control entry")

// seatEntries encodes joined and forgotten seats in as many entries as it takes.
// A seat that is in both is joined first.
func seatEntries(g event.Gateway, joined []Seated, forgot []event.Seat) [][]byte {
	var out [][]byte
	for len(joined)+len(forgot) > 0 {
		j := min(len(joined), maxEntrySeats)
		f := 0
		if j == len(joined) {
			f = min(len(forgot), maxEntrySeats-j)
		}
		out = append(out, appendSeatEntry(nil, g, joined[:j], forgot[:f]))
		joined, forgot = joined[j:], forgot[f:]
	}
	return out
}

func appendSeatEntry(b []byte, g event.Gateway, joined []Seated, forgot []event.Seat) []byte {
	b = append(b, changeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(g))
	b = binary.AppendUvarint(b, uint64(len(joined)))
	for _, s := range joined {
		b = binary.AppendUvarint(b, uint64(s.Seat))
		b = binary.AppendUvarint(b, uint64(len(s.Subscriber)))
		b = append(b, s.Subscriber...)
	}
	b = binary.AppendUvarint(b, uint64(len(forgot)))
	for _, s := range forgot {
		b = binary.AppendUvarint(b, uint64(s))
	}
	return b
}

// decodeChange is the inverse of seatEntries and of a filter.Change's JSON.
func decodeChange(id ControlID, field string, value []byte) (Change, error) {
	c := Change{ID: id}
	var err error
	switch field {
	case filterField:
		err = json.Unmarshal(value, &c.Filter)
		if errors.Is(err, filter.ErrUnknown) {
			return Change{ID: id, Unknown: fmt.Errorf("control entry %s: %w", id, err)}, nil
		}
		if err == nil && c.Filter == nil {
			err = errChange
		}
	case bulkField:
		c.Bulk = true
	case seatsField:
		err = c.decodeSeats(value)
	default:
		err = fmt.Errorf("%w: field %.20q", errChange, field)
	}
	if err != nil {
		return Change{ID: id}, fmt.Errorf("control entry %s: %w", id, err)
	}
	return c, nil
}

func (c *Change) decodeSeats(b []byte) error {
	r := binread.Reader{Rest: b}
	if r.Byte() != changeVersion {
		return errChange
	}
	c.Gateway = event.Gateway(r.Uint64())
	for range r.Uvarint(uint64(len(r.Rest) / 2)) {
		s := Seated{Seat: event.Seat(r.Uvarint(math.MaxUint32))}
		s.Subscriber = r.Text()
		c.Joined = append(c.Joined, s)
	}
	for range r.Uvarint(uint64(len(r.Rest))) {
		c.Forgot = append(c.Forgot, event.Seat(r.Uvarint(math.MaxUint32)))
	}
	if !r.Done() {
		return errChange
	}
	return nil
}
