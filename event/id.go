package event

import (
	"fmt"
	"strconv"
	"strings"
)

// ID is an event's coordinate in the whole system: its partition and offset in
// Kafka. As text it is "3-10293".
type ID struct {
	Partition int32
	Offset    int64
}

// String returns the ID as clients see it.
func (id ID) String() string { return string(id.Append(nil)) }

// Append appends the ID's text to b.
func (id ID) Append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(id.Partition), 10)
	b = append(b, '-')
	return strconv.AppendInt(b, id.Offset, 10)
}

// ParseID is the inverse of ID.String. It accepts no other spelling, so that
// IDs can be compared as text.
func ParseID(s string) (ID, error) {
	part, off, ok := strings.Cut(s, "-")
	p, err1 := strconv.ParseUint(part, 10, 31)
	o, err2 := strconv.ParseUint(off, 10, 63)
	id := ID{int32(p), int64(o)}
	var buf [32]byte
	if !ok || err1 != nil || err2 != nil || string(id.Append(buf[:0])) != s {
		return ID{}, fmt.Errorf("event id %.40q: want <partition>-<offset>", s)
	}
	return id, nil
}

// Gateway identifies one run of a gateway process: a random number drawn at its
// start. Zero means none.
type Gateway uint64

// String returns the Gateway as 16 hex digits.
func (g Gateway) String() string { return fmt.Sprintf("%016x", uint64(g)) }

// ParseGateway is the inverse of Gateway.String.
func ParseGateway(s string) (Gateway, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || Gateway(n).String() != s {
		return 0, fmt.Errorf("gateway %.40q: want 16 lower-case hex digits", s)
	}
	return Gateway(n), nil
}

// Seat is a small number that a gateway gives to a connection. While that gateway
// runs, only connections of the same subscriber get it again.
type Seat uint32

// Address is where a connection sits. The filter service addresses events to
// it until the gateway has forgotten the seat, which is the resume window after
// the connection ended.
type Address struct {
	Gateway Gateway
	Seat    Seat
}

// String returns the Address as "00000000deadbeef-12".
func (a Address) String() string {
	return a.Gateway.String() + "-" + strconv.FormatUint(uint64(a.Seat), 10)
}

// ParseAddress is the inverse of Address.String.
func ParseAddress(s string) (Address, error) {
	gateway, seat, _ := strings.Cut(s, "-")
	g, err1 := ParseGateway(gateway)
	n, err2 := strconv.ParseUint(seat, 10, 32)
	a := Address{g, Seat(n)}
	if err1 != nil || err2 != nil || a.String() != s {
		return Address{}, fmt.Errorf("address %.60q: want <16 hex digits>-<number>", s)
	}
	return a, nil
}

// TopicID is Kafka's own identity of a topic. A topic that is deleted and made
// again has another one, so that offsets of the old one are not taken for its.
type TopicID [16]byte
