package framing

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// permessage-deflate, RFC 7692, without context takeover in either direction:
// each message is compressed by itself, and a connection keeps nothing for it.

const (
	rsv1Bit = 0x40 // the message is compressed

	// MinDeflate is from how many bytes of events on they are compressed. Of less
	// not much is saved, and a packet is sent anyway.
	MinDeflate = 512

	deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// AcceptDeflate returns the answer to the first offer of permessage-deflate that we can
// meet, or "". A client may make several offers.
func AcceptDeflate(h http.Header) string {
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

// Deflater compresses the payload of one message at a time, without what comes at its
// end. The zero value is ready.
type Deflater struct {
	w   *flate.Writer
	out bytes.Buffer
}

// Pack compresses b, up to the end of a byte.
func (d *Deflater) Pack(b []byte) {
	if d.out.Cap() > 1<<20 { // a huge event's buffer is not kept for others
		d.out = bytes.Buffer{}
	}
	d.out.Reset()
	if d.w == nil {
		d.w, _ = flate.NewWriter(nil, flate.BestSpeed) // fails only with a level that there isn't
	}
	d.w.Reset(&d.out)
	d.w.Write(b) // a bytes.Buffer takes all
	d.w.Flush()
}

// Seal appends what was packed, and the rest of the message as it is, to buf, which is
// HeadRoom free bytes. It returns the frame, and buf, which may have grown.
func (d *Deflater) Seal(buf []byte, op byte, rest []byte) (frame, grown []byte) {
	buf = appendStored(append(buf, d.out.Bytes()...), rest)
	frame = sealFrame(buf, op)
	frame[0] |= rsv1Bit
	return frame, buf
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
func inflate(b []byte, limit int) ([]byte, *Error) {
	r := inflaters.Get().(io.Reader)
	defer inflaters.Put(r)
	r.(flate.Resetter).Reset(io.MultiReader(bytes.NewReader(b), strings.NewReader(deflateEnd)), nil)
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case len(out) > limit:
		return nil, ErrTooBig
	case err != nil:
		return nil, &Error{Code: CloseInvalidData, Reason: "message can't be decompressed"}
	}
	return out, nil
}
