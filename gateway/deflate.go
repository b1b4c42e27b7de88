package gateway

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// permessage-deflate, RFC 7692, without context takeover in either direction:
// each message is compressed by itself, and a connection keeps nothing for it.

const (
	rsv1Bit = 0x40 // the message is compressed

	// minDeflate is from how many bytes of events on they are compressed. Of less
	// not much is saved, and a packet is sent anyway.
	minDeflate = 512

	deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// answerDeflate returns the answer to the first offer of permessage-deflate that we can
// meet, or "". A client may make several offers.
func answerDeflate(h http.Header) string {
	for _, line := range h.Values("Sec-WebSocket-Extensions") {
		for offer := range strings.SplitSeq(line, ",") {
			if answer := meet(offer); answer != "" {
				return answer
			}
		}
	}
	return ""
}

// meet returns the answer to an offer, or "" if we can't do as it says (RFC 7692 section
// 7.1). Our compressor's window is the largest; the client's may be as it likes.
func meet(offer string) (answer string) {
	name, rest, more := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return ""
	}
	answer = deflateAnswer
	seen := make(map[string]bool)
	for more {
		var param string
		param, rest, more = strings.Cut(rest, ";")
		key, value, given := strings.Cut(param, "=")
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		if seen[key] {
			return ""
		}
		seen[key] = true
		switch bits, err := strconv.Atoi(value); {
		case key == "server_no_context_takeover" || key == "client_no_context_takeover":
			if given {
				return ""
			}
		case key == "client_max_window_bits" && !given:
		case key == "client_max_window_bits" && err == nil && bits >= 8 && bits <= 15 && value[0] != '0' && value[0] != '+':
		case key == "server_max_window_bits" && value == "15":
			answer += "; server_max_window_bits=15"
		default:
			return ""
		}
	}
	return answer
}

// worthDeflating reports whether messages are to be compressed.
func worthDeflating(messages []*message) bool {
	size := 0
	for _, m := range messages {
		if size += len(m.json); size >= minDeflate {
			return true
		}
	}
	return false
}

// sendDeflated writes one compressed frame of events.
func (s *shard) sendDeflated(c *conn, messages []*message, cursor string) {
	buf := s.deflater.append(s.scratch[:headRoom], messages, cursor)
	frame := sealFrame(buf, opText)
	frame[0] |= rsv1Bit
	s.writeFrame(c, frame, buf)
}

// deflater compresses events for a shard's worker. It keeps the last ones: an event
// for many is compressed once for all of them, whatever their cursors.
type deflater struct {
	w   *flate.Writer
	of  []*message
	out bytes.Buffer // of, compressed
	in  []byte       // memory to encode in
}

// append appends a compressed events message.
func (d *deflater) append(buf []byte, messages []*message, cursor string) []byte {
	if !slices.Equal(d.of, messages) {
		d.compress(messages)
	}
	d.in = appendEventsTail(d.in[:0], cursor)
	return appendStored(append(buf, d.out.Bytes()...), d.in)
}

func (d *deflater) compress(messages []*message) {
	if max(cap(d.in), d.out.Cap()) > 1<<20 { // a huge event's buffers are not kept for others
		*d = deflater{w: d.w}
	}
	d.in = appendEvents(d.in[:0], deflated, messages)
	d.pack(d.in)
	d.of = append(d.of[:0], messages...)
}

// pack compresses b into out, up to the end of a byte.
func (d *deflater) pack(b []byte) {
	d.out.Reset()
	if d.w == nil {
		d.w, _ = flate.NewWriter(nil, flate.BestSpeed) // fails only with a level that there isn't
	}
	d.w.Reset(&d.out)
	d.w.Write(b) // a bytes.Buffer takes all
	d.w.Flush()
}

// appendStored appends the rest of a compressed message as it is, since a cursor
// does not shrink: in blocks of type 0, of which the last is empty, and lacks the
// four bytes that a message does without (RFC 7692 section 7.2.1).
func appendStored(buf, rest []byte) []byte {
	for len(rest) > 0 {
		n := min(len(rest), 1<<16-1)
		buf = append(buf, 0)
		buf = binary.LittleEndian.AppendUint16(buf, uint16(n))
		buf = binary.LittleEndian.AppendUint16(buf, ^uint16(n))
		buf = append(buf, rest[:n]...)
		rest = rest[n:]
	}
	return append(buf, 0)
}

// deflateEnd is what is left out of a message, and then an end.
const deflateEnd = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// inflate returns what a client has compressed. It makes no more than limit of it.
func inflate(b []byte, limit int) ([]byte, *protocolError) {
	r := inflaters.Get().(io.Reader)
	defer inflaters.Put(r)
	r.(flate.Resetter).Reset(io.MultiReader(bytes.NewReader(b), strings.NewReader(deflateEnd)), nil)
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case len(out) > limit:
		return nil, errTooBig
	case err != nil:
		return nil, &protocolError{code: closeInvalidData, reason: "message can't be decompressed"}
	}
	return out, nil
}
