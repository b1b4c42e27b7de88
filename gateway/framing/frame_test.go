package framing

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"eventstream/gateway/framing/framingtest"
)

// heardMessage is one call of feed's callback.
type heardMessage struct {
	op      byte
	payload string
}

// hear feeds pieces and returns what came out, and how it ended.
func hear(limit int, pieces ...[]byte) (out []heardMessage, err *Error, kept *Inbound) {
	var in *Inbound
	for _, p := range pieces {
		p = bytes.Clone(p)
		in, err = in.Feed(p, Rules{Limit: limit}, func(op byte, payload []byte) *Error {
			out = append(out, heardMessage{op, string(payload)})
			if op == OpClose {
				code, err := CloseStatus(payload)
				if err != nil {
					return err
				}
				return &Error{Code: code, Bye: true}
			}
			return nil
		})
		if err != nil {
			return out, err, nil
		}
		clear(p) // a poller's buffer is used for others then
	}
	return out, nil, in
}

// reference is the slow obvious reading of a whole stream of client frames.
func reference(b []byte, limit int) (out []heardMessage, code int) {
	var op byte
	var message []byte
	for {
		if len(b) < 2 {
			return out, 0
		}
		fin, rsv, o := b[0]&0x80 != 0, b[0]&0x70, b[0]&0xF
		masked, n7 := b[1]&0x80 != 0, int(b[1]&0x7F)
		isControl := o == 8 || o == 9 || o == 10
		if rsv != 0 || !isControl && o > 2 || !masked || isControl && (!fin || n7 > 125) {
			return out, 1002
		}
		n, head := uint64(n7), 2
		if n7 == 126 {
			head = 4
		} else if n7 == 127 {
			head = 10
		}
		if len(b) < head {
			return out, 0
		}
		if n7 == 126 {
			n = uint64(binary.BigEndian.Uint16(b[2:4]))
		} else if n7 == 127 {
			n = binary.BigEndian.Uint64(b[2:10])
		}
		if !isControl && n > uint64(limit-len(message)) {
			return out, 1009
		}
		if uint64(len(b)) < uint64(head)+4+n {
			return out, 0
		}
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = b[head+4+i] ^ b[head+i%4]
		}
		b = b[head+4+int(n):]
		if isControl {
			out = append(out, heardMessage{o, string(payload)})
			if o == 8 {
				return out, referenceClose(payload)
			}
			continue
		}
		if (o == 0) != (op != 0) {
			return out, 1002
		}
		if o != 0 {
			op = o
		}
		message = append(message, payload...)
		if op == 1 && !fin && !slices.ContainsFunc([]int{0, 1, 2, 3}, func(n int) bool {
			return n <= len(message) && utf8.Valid(message[:len(message)-n]) && begun()[string(message[len(message)-n:])]
		}) {
			return out, 1007
		}
		if !fin {
			continue
		}
		if op == 1 && !utf8.Valid(message) {
			return out, 1007
		}
		out = append(out, heardMessage{op, string(message)})
		op, message = 0, nil
	}
}

// begun returns all bytes that a rune can begin with, but not end with.
var begun = sync.OnceValue(func() map[string]bool {
	out := make(map[string]bool)
	for r := range rune(utf8.MaxRune + 1) {
		if utf8.ValidRune(r) {
			for s, n := string(r), 0; n < len(s); n++ {
				out[s[:n]] = true
			}
		}
	}
	return out
})

func referenceClose(payload []byte) int {
	switch {
	case len(payload) == 0:
		return 1005
	case len(payload) == 1:
		return 1002
	}
	code := int(payload[0])<<8 | int(payload[1])
	known := []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
	if !slices.Contains(known, code) && (code < 3000 || code > 4999) {
		return 1002
	}
	if !utf8.Valid(payload[2:]) {
		return 1007
	}
	return code
}

func checkStream(t *testing.T, stream []byte, limit int, split func(rest int) int) {
	t.Helper()
	want, wantCode := reference(bytes.Clone(stream), limit)
	var pieces [][]byte
	for rest := stream; len(rest) > 0; {
		n := split(len(rest))
		pieces = append(pieces, rest[:n])
		rest = rest[n:]
	}
	got, err, kept := hear(limit, pieces...)
	code := 0
	if err != nil {
		code = err.Code
	}
	if !slices.Equal(got, want) || code != wantCode {
		t.Fatalf("stream %x in %d pieces:\ngot  %q, code %d\nwant %q, code %d", stream, len(pieces), got, code, want, wantCode)
	}
	if kept != nil && len(kept.bytes)+len(kept.message) > limit+maxControl+14 {
		t.Fatalf("stream %x: %d bytes are kept, the limit is %d", stream, len(kept.bytes)+len(kept.message), limit)
	}
}

func FuzzFrames(f *testing.F) {
	for _, frames := range [][][]byte{
		{framingtest.ClientFrame(OpText, true, []byte(`{"type":"ping"}`), 1)},
		{framingtest.ClientFrame(OpText, false, []byte("a"), 2), framingtest.ClientFrame(OpPing, true, []byte("p"), 3), framingtest.ClientFrame(OpContinuation, true, []byte("b"), 4)},
		{framingtest.ClientFrame(OpBinary, true, make([]byte, 300), 5), framingtest.ClientFrame(OpClose, true, []byte{3, 232, 'x'}, 6)},
		{framingtest.ClientFrame(OpText, true, []byte("\xff"), 7)},
		{{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}},
	} {
		f.Add(bytes.Join(frames, nil), uint64(1))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		const limit = 512
		rng := rand.New(rand.NewPCG(seed, 0))
		checkStream(t, stream, limit, func(rest int) int { return rest })
		checkStream(t, stream, limit, func(rest int) int { return 1 + rng.IntN(min(rest, 20)) })
	})
}

// Streams that are mostly right reach deeper than the fuzzer's.
func TestFramesLikeReference(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var stream []byte
		open := false
		for range 1 + rng.IntN(6) {
			payload := []byte(strings.Repeat("é", rng.IntN([]int{2, 40, 200}[rng.IntN(3)])))
			payload = payload[:max(0, len(payload)-rng.IntN(3)/2)] // at times half a rune
			op, fin := byte(OpText), rng.IntN(3) > 0
			switch {
			case rng.IntN(3) == 0:
				op, fin, payload = byte(OpClose+rng.IntN(3)), true, payload[:min(len(payload), 125)]
				if op == OpClose && rng.IntN(2) == 0 {
					payload = binary.BigEndian.AppendUint16(nil, uint16(998+rng.IntN(20)))
				}
			case open:
				op = OpContinuation
			}
			if op < OpClose {
				open = !fin
			}
			frame := framingtest.ClientFrame(op, fin, payload, rng.Uint32())
			if rng.IntN(20) == 0 {
				frame[rng.IntN(2)] ^= 1 << rng.IntN(8)
			}
			stream = append(stream, frame...)
		}
		checkStream(t, stream, 500, func(rest int) int { return rest })
		checkStream(t, stream, 500, func(int) int { return 1 })
		checkStream(t, stream, 500, func(rest int) int { return 1 + rng.IntN(min(rest, 50)) })
	}
}

// A control frame is no part of the message that it comes amidst, and does not
// count for its size.
func TestControlInFullMessage(t *testing.T) {
	stream := slices.Concat(
		framingtest.ClientFrame(OpText, false, make([]byte, 490), 1),
		framingtest.ClientFrame(OpPing, true, make([]byte, 125), 2),
		framingtest.ClientFrame(OpContinuation, true, make([]byte, 10), 3))
	if got, err, _ := hear(500, stream); err != nil || len(got) != 2 {
		t.Errorf("got %d messages, %v; want ping and text", len(got), err)
	}
}

func TestServerFrames(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("x"), n)
		op, got := framingtest.ServerFrame(t, NewFrame(OpText, payload))
		if op != OpText || !bytes.Equal(got, payload) {
			t.Errorf("frame of %d bytes: op %d, %d bytes", n, op, len(got))
		}
	}
	if _, got := framingtest.ServerFrame(t, WebSocket.Close(1001, strings.Repeat("x", 300))); len(got) != maxControl {
		t.Errorf("close frame with a long reason: %d bytes, want %d", len(got), maxControl)
	}
	if _, got := framingtest.ServerFrame(t, WebSocket.Close(CloseNoStatus, "x")); len(got) != 0 {
		t.Errorf("close frame without a status: %d bytes, want none", len(got))
	}
}

func BenchmarkFeed(b *testing.B) {
	frame := framingtest.ClientFrame(OpText, true, []byte(`{"type":"ping"}`), 1)
	buf := make([]byte, len(frame))
	var in *Inbound
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, frame)
		in, _ = in.Feed(buf, Rules{Limit: testLimit}, func(byte, []byte) *Error { return nil })
	}
}
