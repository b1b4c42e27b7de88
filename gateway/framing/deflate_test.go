package framing

import (
	"bytes"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"eventstream/gateway/framing/framingtest"
)

func TestDeflateOffers(t *testing.T) {
	for _, tt := range []struct {
		offer string
		want  string
	}{
		{"permessage-deflate", deflateAnswer},
		{"permessage-deflate; client_max_window_bits", deflateAnswer}, // Chromium, Firefox
		{"permessage-deflate; client_max_window_bits=9", deflateAnswer},
		{`permessage-deflate; client_max_window_bits="15"`, deflateAnswer},
		{"permessage-deflate;server_no_context_takeover;client_no_context_takeover", deflateAnswer},
		{"x-webkit-deflate-frame, permessage-deflate", deflateAnswer},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", deflateAnswer}, // the second one
		{"", ""},
		{"x-webkit-deflate-frame", ""},
		{"permessage-deflate; server_max_window_bits=10", ""}, // can't be met
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=14", ""},
		{"permessage-deflate; server_max_window_bits=015", ""},
		{"permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", ""},
		{`permessage-deflate; server_max_window_bits=15; client_max_window_bits`, deflateAnswer + "; server_max_window_bits=15"}, // Boost.Beast
		{`permessage-deflate; server_max_window_bits="15"`, deflateAnswer + "; server_max_window_bits=15"},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=08", ""},
		{"permessage-deflate; client_max_window_bits=", ""},
		{"permessage-deflate; client_max_window_bits=x", ""},
		{"permessage-deflate; client_no_context_takeover=1", ""},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate;", ""},
	} {
		if got := AcceptDeflate(http.Header{"Sec-Websocket-Extensions": {tt.offer}}); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.offer, got, tt.want)
		}
	}
}

// A message of few bytes can be one of very many: no more is made of it than may be.
func TestInflateBomb(t *testing.T) {
	bomb := framingtest.Compressed(t, make([]byte, 1<<20))
	if _, err := inflate(bomb, testLimit); err != ErrTooBig {
		t.Fatalf("got %v, want %v", err, ErrTooBig)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		inflate(bomb, testLimit)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 20; got > 16*testLimit {
		t.Errorf("a bomb of %d bytes takes %d bytes", len(bomb), got)
	}
	for _, n := range []int{0, 1, testLimit - 1, testLimit, testLimit + 1} {
		got, err := inflate(framingtest.Compressed(t, make([]byte, n)), testLimit)
		if fits := n <= testLimit; fits != (err == nil) || fits && len(got) != n {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// Whatever a client compresses, or says it has, is bounded, and what is right is
// understood however it is cut into fragments.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("abc"), 1)
	f.Add([]byte("\x00"), 0)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if out, err := inflate(b, 512); err == nil && len(out) > 512 {
			t.Errorf("%d bytes", len(out))
		}
		if len(b) > 400 {
			return
		}
		message := framingtest.Compressed(t, b)
		cut = max(0, min(cut, len(message)))
		first := framingtest.ClientFrame(OpBinary, false, message[:cut], 5)
		first[0] |= framingtest.RSV1
		stream := slices.Concat(first, framingtest.ClientFrame(OpPing, true, nil, 1), framingtest.ClientFrame(OpContinuation, true, message[cut:], 6))
		var got []byte
		var in *Inbound
		if _, err := in.Feed(stream, Rules{512, true}, func(op byte, payload []byte) *Error {
			if op == OpBinary {
				got = slices.Clone(payload)
			}
			return nil
		}); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%x: got %x, %v", b, got, err)
		}
	})
}

// testLimit is of a message's bytes.
const testLimit = 20 << 10
