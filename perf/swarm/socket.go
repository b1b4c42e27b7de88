//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// socket is a subscriber's connection: all that is kept of it while it is idle.
type socket struct {
	fd     int
	stream int32 // whose events it is to get
	first  int32 // number of the first and of the last event that came
	last   int32
	since  int64          // when the first hello came, in Unix microseconds; 0 before
	part   []byte         // of a frame that has not come whole
	holes  map[int32]bool // numbers that were left out so far
	seam   int32          // last of the connection before, which may come again
	resume *place         // nil if it is never cut off
	hello  bool
	failed bool
}

// tally is what went wrong, and right, with some sockets.
type tally struct {
	Received int64
	Missing  int64
	Twice    int64
	Seam     int64 // came again after a reconnection, which is allowed
	Order    int64 // came, but after one of a higher number
	Extra    int64 // of a stream that the socket is not to get
	Gaps     int64 // told by the server
	Closed   int64 // by the server, or by an error
	Unserved int64 // sockets that missed something
}

func (t *tally) add(o tally) {
	t.Received += o.Received
	t.Missing += o.Missing
	t.Twice += o.Twice
	t.Seam += o.Seam
	t.Order += o.Order
	t.Extra += o.Extra
	t.Gaps += o.Gaps
	t.Closed += o.Closed
	t.Unserved += o.Unserved
}

// wrong tells whether a promise was broken.
func (t *tally) wrong() bool {
	return t.Missing+t.Twice+t.Order+t.Extra+t.Gaps+t.Closed+t.Unserved > 0
}

var errFrame = errors.New("not the frame of a server that keeps to RFC 6455 and does not fragment")

const (
	opText, opClose, opPing, opPong = 1, 8, 9, 10
	maxFrame                        = 64 << 20
)

// frame takes the first frame off b. n is 0 if b holds only a part of it.
func frame(b []byte) (op byte, payload []byte, n int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0x80 == 0 || b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return 0, nil, 0, fmt.Errorf("%w: it begins with %x", errFrame, b[:2])
	}
	size, head := uint64(b[1]), 2
	switch {
	case size == 126 && len(b) >= 4:
		size, head = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case size == 127 && len(b) >= 10:
		size, head = binary.BigEndian.Uint64(b[2:]), 10
	case size >= 126:
		return 0, nil, 0, nil
	}
	if size > maxFrame {
		return 0, nil, 0, fmt.Errorf("%w: %d bytes", errFrame, size)
	}
	if uint64(len(b)) < uint64(head)+size {
		return 0, nil, 0, nil
	}
	n = head + int(size)
	return b[0] & 0xF, b[head:n], n, nil
}

// Marks in the messages, as package wire and package feed write them.
var (
	markHello  = []byte(`{"type":"hello"`)
	markReply  = []byte(`{"id":1,"connect":`) // centrifuge's hello
	markGap    = []byte(`{"type":"gap"`)
	markStream = []byte(`,"stream":`)
	markSeq    = []byte(`,"seq":`)
	markAt     = []byte(`,"at_us":`)
)

// message takes one message apart. It looks for the marks: decoding the JSON would
// cost more than everything that is measured. came is told of each event.
func (s *socket) message(m []byte, now int64, t *tally, came func(at, now int64)) {
	if s.resume != nil {
		s.resume.note(m)
	}
	switch {
	case bytes.HasPrefix(m, markHello), bytes.HasPrefix(m, markReply): // the latter with what was missed
		if s.hello = true; s.since == 0 {
			s.since = now
		}
	case bytes.HasPrefix(m, markGap):
		t.Gaps++
		return
	}
	for {
		i := bytes.Index(m, markStream)
		if i < 0 {
			return
		}
		stream, rest := number(m[i+len(markStream):])
		seq, rest := number(rest[min(len(markSeq), len(rest)):])
		at, rest := number(rest[min(len(markAt), len(rest)):])
		m = rest
		came(at, now)
		s.take(int32(stream), int32(seq), t)
	}
}

// number reads digits, and returns what follows them.
func number(b []byte) (n int64, rest []byte) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	n, _ = strconv.ParseInt(string(b[:i]), 10, 64)
	return n, b[i:]
}

// take notes an event.
func (s *socket) take(stream, seq int32, t *tally) {
	t.Received++
	switch {
	case stream != s.stream:
		t.Extra++
		return
	case seq > s.last:
		if s.first == 0 {
			s.first, s.last = seq, seq-1
		}
		for n := s.last + 1; n < seq; n++ {
			s.hole(n)
		}
		s.last = seq
	case s.holes[seq]:
		delete(s.holes, seq)
		t.Order++
	case seq <= s.seam:
		t.Seam++
	default:
		t.Twice++
	}
}

func (s *socket) hole(n int32) {
	if s.holes == nil {
		s.holes = make(map[int32]bool)
	}
	s.holes[n] = true
}

// judge is told which events were due.
func (s *socket) judge(first, last int32, t *tally) {
	missing := int64(0)
	switch {
	case last < first: // none was due
	case s.first == 0:
		missing = int64(last-first) + 1
	default:
		missing = int64(max(0, s.first-first)) + int64(max(0, last-s.last))
	}
	for n := range s.holes {
		if n >= first {
			missing++
		}
	}
	t.Missing += missing
	if missing > 0 || s.failed {
		t.Unserved++
	}
}
