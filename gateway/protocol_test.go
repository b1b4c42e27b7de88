package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/gateway/delivery"
	"eventstream/gateway/framing"
	"eventstream/gateway/framing/framingtest"
	"eventstream/wire"
)

// protocolCase is a conversation: what a client sends after hello, a frame in each
// part, and what it hears. It says goodbye itself, with 1000, unless it is closed.
type protocolCase struct {
	id, text string // of the Autobahn test suite, and without an id our own
	deflate  bool   // is negotiated
	send     [][]byte
	want     string
}

func fragment(op byte, fin bool, payload string) []byte {
	return framingtest.ClientFrame(op, fin, []byte(payload), 0x8F3C0A51)
}

func textFrame(payload string) []byte { return fragment(framing.OpText, true, payload) }
func pingFrame(payload string) []byte { return fragment(framing.OpPing, true, payload) }

func goodbye(code int, reason string) []byte {
	return fragment(framing.OpClose, true, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// bits sets some of the first byte's bits in a frame.
func bits(b byte, frame []byte) []byte {
	frame[0] |= b
	return frame
}

// pieces cuts a message into fragments of n bytes.
func pieces(op byte, message string, n int) (out [][]byte) {
	for len(message) > n {
		out = append(out, fragment(op, false, message[:n]))
		message, op = message[n:], framing.OpContinuation
	}
	return append(out, fragment(op, true, message))
}

func protocolCases(t testing.TB) (out []protocolCase) {
	add := func(id, text, want string, send ...[]byte) {
		out = append(out, protocolCase{id: id, text: text, send: send, want: want})
	}
	hello := textFrame("Hello, world!") // is no request: the answer is an error
	const greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"

	for i, n := range []int{0, 125, 126, 127, 128, delivery.MaxRequest, 65535, 65536} {
		text, bin := "error", "close 1003"
		if n > delivery.MaxRequest {
			text, bin = "close 1009", "close 1009"
		}
		payload := strings.Repeat("*", n)
		add(fmt.Sprintf("1.1.%d", i+1), fmt.Sprintf("text of %d bytes", n), text, textFrame(payload))
		add(fmt.Sprintf("1.2.%d", i+1), fmt.Sprintf("binary of %d bytes", n), bin, fragment(framing.OpBinary, true, payload))
	}

	full := strings.Repeat("\xfe", 125)
	add("2.1", "ping without payload", "pong:", pingFrame(""))
	add("2.2", "ping", "pong:Hello", pingFrame("Hello"))
	add("2.3", "ping with bytes that are no text", "pong:\x00\xff\xfe", pingFrame("\x00\xff\xfe"))
	add("2.4", "ping of 125 bytes", "pong:"+full, pingFrame(full))
	add("2.5", "ping of 126 bytes", "close 1002", pingFrame(full+"x"))
	add("2.7", "pong that nobody asked for", "", fragment(framing.OpPong, true, ""))
	add("2.8", "pong with payload", "", fragment(framing.OpPong, true, "unsolicited"))
	add("2.9", "pong, then ping", "pong:x", fragment(framing.OpPong, true, "unsolicited"), pingFrame("x"))
	var pings [][]byte
	var pongs []string
	for i := range 10 {
		pings, pongs = append(pings, pingFrame(fmt.Sprint(i))), append(pongs, fmt.Sprintf("pong:%d", i))
	}
	add("2.10", "ten pings", strings.Join(pongs, " "), pings...)

	for rsv := byte(1); rsv <= 7; rsv++ {
		add(fmt.Sprintf("3.%d", rsv), "reserved bits of text", "error close 1002", hello, bits(rsv<<4, textFrame("x")), pingFrame(""))
	}
	add("3.5", "reserved bits of binary", "close 1002", bits(5<<4, fragment(framing.OpBinary, true, "x")))
	add("3.6", "reserved bits of a ping", "close 1002", bits(6<<4, pingFrame("x")))
	add("3.7", "reserved bits of a close", "close 1002", bits(7<<4, goodbye(1000, "")))

	for i := range 5 {
		add(fmt.Sprintf("4.1.%d", i+1), "unknown opcode of data", "error close 1002", hello, fragment(byte(3+i), true, ""), pingFrame(""))
		add(fmt.Sprintf("4.1.%d", i+1), "the same with payload", "close 1002", fragment(byte(3+i), true, "x"))
		add(fmt.Sprintf("4.2.%d", i+1), "unknown opcode of control", "error close 1002", hello, fragment(byte(11+i), true, ""), pingFrame(""))
		add(fmt.Sprintf("4.2.%d", i+1), "the same with payload", "close 1002", fragment(byte(11+i), true, "x"))
	}

	begin, middle, end := fragment(framing.OpText, false, "a"), fragment(framing.OpContinuation, false, "b"), fragment(framing.OpContinuation, true, "c")
	add("5.1", "fragmented ping", "close 1002", fragment(framing.OpPing, false, "a"), end)
	add("5.2", "fragmented pong", "close 1002", fragment(framing.OpPong, false, "a"), end)
	add("5.3", "text in two fragments", "error", begin, end)
	add("5.6", "ping between fragments", "pong:p error", begin, pingFrame("p"), end)
	add("5.9", "continuation of nothing, the last, then text", "close 1002", end, hello)
	add("5.12", "continuation of nothing, not the last, then text", "close 1002", middle, hello)
	add("5.15", "continuation after the last fragment", "error close 1002", begin, end, middle, hello)
	add("5.16", "continuation of nothing before text in fragments", "close 1002", middle, begin, end, middle, begin, end)
	add("5.17", "the same, as a last one", "close 1002", end, begin, end, end, begin, end)
	add("5.18", "text in text", "close 1002", begin, hello)
	add("5.19", "pings amidst five fragments", "pong:1 pong:2 error", begin, middle, pingFrame("1"), middle, middle, pingFrame("2"), end)

	add("6.1.1", "text of no bytes", "error", textFrame(""))
	add("6.1.2", "three fragments of no bytes", "error", fragment(framing.OpText, false, ""), fragment(framing.OpContinuation, false, ""), fragment(framing.OpContinuation, true, ""))
	add("6.1.3", "three fragments, of which the middle one has bytes", "error", fragment(framing.OpText, false, ""), middle, fragment(framing.OpContinuation, true, ""))
	add("6.2.2", "runes end with fragments", "error", fragment(framing.OpText, false, "Hello-µ@ßöä"), fragment(framing.OpContinuation, true, "üàá-UTF-8!!"))
	add("6.2.3", "runes go on in the next fragment", "error", pieces(framing.OpText, "Hello-µ@ßöäüàá-UTF-8!!", 1)...)
	add("6.2.4", "the same of others", "error", pieces(framing.OpText, greek, 1)...)
	add("6.3.1", "a surrogate in text", "close 1007", textFrame(greek+"\xed\xa0\x80edited"))
	add("6.3.2", "the same in fragments of a byte", "close 1007", pieces(framing.OpText, greek+"\xed\xa0\x80edited", 1)...)
	add("6.4.1", "fails before the last fragment comes", "close 1007", fragment(framing.OpText, false, greek), fragment(framing.OpContinuation, false, "\xf4\x90\x80\x80"))
	add("6.4.2", "fails when a rune can't become one any more", "close 1007", fragment(framing.OpText, false, greek+"\xf4"), fragment(framing.OpContinuation, false, "\x90"))
	for _, tt := range utf8Sequences {
		for _, s := range tt.valid {
			add(tt.id, tt.text, "error", textFrame(s))
		}
		for _, s := range tt.invalid {
			add(tt.id, tt.text, "close 1007", textFrame(s))
		}
	}

	add("7.1.1", "text, then close", "error close 1000", hello, goodbye(1000, ""))
	add("7.1.2", "two closes", "close 1000", goodbye(1000, ""), goodbye(1000, ""))
	add("7.1.3", "ping after close", "close 1000", goodbye(1000, ""), pingFrame(""))
	add("7.1.4", "text after close", "close 1000", goodbye(1000, ""), hello)
	add("7.1.5", "close amidst fragments", "close 1000", begin, goodbye(1000, ""), end)
	add("7.3.1", "close without status", "close 1005", fragment(framing.OpClose, true, ""))
	add("7.3.2", "close of one byte", "close 1002", fragment(framing.OpClose, true, "a"))
	add("7.3.4", "close with reason", "close 1000", goodbye(1000, "Hello World!"))
	add("7.3.5", "close with the longest reason", "close 1000", goodbye(1000, strings.Repeat("*", 123)))
	add("7.3.6", "close with a longer one", "close 1002", goodbye(1000, strings.Repeat("*", 124)))
	add("7.5.1", "close with a reason that is not UTF-8", "close 1007", goodbye(1000, greek+"\xed\xa0\x80edited"))
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("7.7.%d", i+1), "close with a code", fmt.Sprintf("close %d", code), goodbye(code, ""))
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		add(fmt.Sprintf("7.9.%d", i+1), "close with a code that is not to be sent", "close 1002", goodbye(code, ""))
	}
	add("7.13.1", "close with 5000", "close 1002", goodbye(5000, ""))
	add("7.13.2", "close with 65535", "close 1002", goodbye(65535, ""))

	// The suite's sizes are up to 16 MiB; ours up to the limit of a request.
	large := strings.Repeat("*", delivery.MaxRequest)
	add("9.1", "the largest text", "error", textFrame(large))
	add("9.3", "the largest text in fragments of 64 bytes", "error", pieces(framing.OpText, large, 64)...)
	add("9.3", "the largest text in as many fragments as may be", "error", pieces(framing.OpText, large, delivery.MaxRequest/framing.MaxFragments)...)
	add("9.3", "more fragments than may be", "close 1009", pieces(framing.OpText, large[:framing.MaxFragments+1], 1)...)
	add("9.3", "one byte too many, in fragments", "close 1009", pieces(framing.OpText, large+"*", 64)...)
	add("9.3", "fragments of no bytes without end", "close 1009", append([][]byte{begin}, slices.Repeat([][]byte{fragment(framing.OpContinuation, false, "")}, framing.MaxFragments)...)...)
	add("", "absurd length", "close 1009", []byte{0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
	add("10.1.1", "text in fragments of 1300 bytes", "error", pieces(framing.OpText, large, 1300)...)

	add("", "frame that is not masked", "close 1002", []byte{0x81, 0x01, 'x'})
	add("", "garbage", "close 1002", []byte("GET / HTTP/1.1\r\n\r\n"))
	add("", "request", "pong", textFrame(`{"type":"ping"}`))
	return append(out, deflateCases(t)...)
}

func deflateCases(t testing.TB) (out []protocolCase) {
	add := func(id, text, want string, send ...[]byte) {
		out = append(out, protocolCase{id: id, text: text, deflate: true, send: send, want: want})
	}
	compressed := func(s string) string { return string(framingtest.Compressed(t, []byte(s))) }
	ping := compressed(`{"type":"ping"}`)
	for i, n := range []int{0, 16, 64, 256, 1024, delivery.MaxRequest} {
		add(fmt.Sprintf("12.1.%d", i+1), fmt.Sprintf("compressed text of %d bytes", n), "error", bits(framingtest.RSV1, textFrame(compressed(strings.Repeat("*", n)))))
	}
	add("12.1", "compressed request", "pong", bits(framingtest.RSV1, textFrame(ping)))
	add("12.1", "several, each by itself", "pong pong pong", bits(framingtest.RSV1, textFrame(ping)), bits(framingtest.RSV1, textFrame(ping)), textFrame(`{"type":"ping"}`))
	fragments := pieces(framing.OpText, ping, 3)
	bits(framingtest.RSV1, fragments[0])
	add("12.1", "compressed, in fragments", "pong", fragments...)
	add("12.1", "with a ping between", "pong:p pong", append([][]byte{fragments[0], pingFrame("p")}, fragments[1:]...)...)
	add("12.2", "compressed binary", "close 1003", bits(framingtest.RSV1, fragment(framing.OpBinary, true, ping)))

	add("", "compressed continuation", "close 1002", fragments[0], bits(framingtest.RSV1, bytes.Clone(fragments[1])))
	add("", "compressed ping", "close 1002", bits(framingtest.RSV1, pingFrame("x")))
	add("", "another reserved bit", "close 1002", bits(0x20, textFrame("x")))
	add("", "no deflate", "close 1007", bits(framingtest.RSV1, textFrame("\xff\xff\xff")))
	add("", "compressed text that is not UTF-8", "close 1007", bits(framingtest.RSV1, textFrame(compressed("\xed\xa0\x80"))))
	add("", "more than may be, in few bytes", "close 1009", bits(framingtest.RSV1, textFrame(compressed(strings.Repeat("*", 1<<20)))))
	add("", "goes back before its beginning", "close 1007", bits(framingtest.RSV1, textFrame("\x02\x03\x00"))) // a match, first of all
	return out
}

// TestProtocolCases has conversations with a gateway: its messages are requests, so
// that what the suite has echoed is answered by an error here. Each is sent in one
// segment, frame by frame, and byte by byte. Others are not disturbed.
func TestProtocolCases(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{Compress: true})
	other := connect(t, g, "other", "")
	for _, tt := range protocolCases(t) {
		t.Run(strings.TrimSpace(tt.id+" "+tt.text), func(t *testing.T) {
			whole := bytes.Join(tt.send, nil)
			want := tt.want
			if !strings.Contains(want, "close") {
				want = strings.TrimSpace(want + " close 1000")
			}
			ways := [][][]byte{{whole}, tt.send}
			if len(whole) < 300 {
				ways = append(ways, slices.Collect(slices.Chunk(whole, 1)))
			}
			for _, parts := range ways {
				if got := converse(t, g, tt.deflate, parts); got != want {
					t.Errorf("in %d parts: got %q, want %q", len(parts), got, want)
				}
			}
		})
	}
	other.untilEvent(w.publish(0, "other"))
	other.ws.CloseNow()
	noneOpen(t, g)
}

// converse sends the parts, then a close, and returns what it heard, up to the end.
func converse(t *testing.T, g *instance, deflate bool, parts [][]byte) string {
	t.Helper()
	r := request("user_1", "")
	if deflate {
		r = strings.Replace(r, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
	}
	c := rawConnect(t, g)
	defer c.nc.Close()
	c.sendBytes([]byte(r))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != 101 || deflate != (resp.Header.Get("Sec-WebSocket-Extensions") != "") {
		t.Fatalf("handshake: %+v, %v", resp, err)
	}
	if m := c.message(); m.Type != wire.Hello {
		t.Fatalf("got %+v, want hello", m)
	}
	for _, p := range append(parts, goodbye(1000, "")) {
		c.nc.Write(p) // an answer may have closed it
	}
	var heard []string
	for {
		op, payload, err := c.frame()
		switch {
		case err != nil:
			t.Fatalf("after %q: %v", heard, err)
		case op == framing.OpPong:
			heard = append(heard, "pong:"+string(payload))
		case op == framing.OpText:
			var m wire.Message
			if err := json.Unmarshal(payload, &m); err != nil {
				t.Fatalf("message %q: %v", payload, err)
			}
			if m.Type == wire.Cursor { // a quiet client gets one now and then
				continue
			}
			heard = append(heard, m.Type)
		case op == framing.OpClose:
			code := framing.CloseNoStatus
			if len(payload) >= 2 {
				code = int(binary.BigEndian.Uint16(payload))
			}
			return strings.Join(append(heard, fmt.Sprintf("close %d", code)), " ")
		}
	}
}

// utf8Sequences are those of Markus Kuhn's decoder test, by the suite's numbers.
var utf8Sequences = []struct {
	id, text       string
	valid, invalid []string
}{
	{"6.5", "some valid sequences", []string{"hello$world", "hello\xc2\xa2world", "hello\xe2\x82\xacworld", "hello\xf0\xa4\xad\xa2world"}, nil},
	{
		"6.6", "all prefixes of a string", []string{"\xce\xba", "\xce\xba\xe1\xbd\xb9", "\xce\xba\xe1\xbd\xb9\xcf\x83"},
		[]string{"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "\xce\xba\xe1\xbd\xb9\xcf", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce"},
	},
	{"6.7", "first of a length", []string{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}, nil},
	{"6.8", "first of 5 and 6 bytes", nil, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
	{"6.9", "last of a length", []string{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}, nil},
	{"6.10", "last of 4, 5 and 6 bytes", nil, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
	{"6.11", "other boundaries", []string{"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"}, []string{"\xf4\x90\x80\x80"}},
	{"6.12", "continuation bytes alone", nil, []string{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf"}},
	{"6.13", "first bytes alone", nil, []string{"\xc0 \xc1 \xc2 ", "\xe0 \xe1 \xe2 ", "\xf0 \xf1 \xf2 ", "\xf8 \xf9 \xfa ", "\xfc "}},
	{"6.14", "last byte missing", nil, []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}},
	{"6.15", "several of these", nil, []string{"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"}},
	{"6.16", "impossible bytes", nil, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
	{"6.17", "overlong ASCII", nil, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
	{"6.18", "longest overlong", nil, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
	{"6.19", "overlong NUL", nil, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
	{"6.20", "surrogates", nil, []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}},
	{"6.21", "pairs of surrogates", nil, []string{"\xed\xa0\x80\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf", "\xed\xae\x80\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"}},
	{"6.22", "noncharacters", []string{"\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf1\xbf\xbf\xbf", "\xf3\xbf\xbf\xbe", "\xf4\x8f\xbf\xbf"}, nil},
	{"6.23", "specials", []string{"\xef\xbf\xb9", "\xef\xbf\xba", "\xef\xbf\xbb", "\xef\xbf\xbc", "\xef\xbf\xbd"}, nil},
}

// A client that goes on sending after a protocol error still gets its close
// frame, and is cut off in the end.
func TestOversizedMessageWhileSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := rawDial(t, g, "user_1", "")
	c.message()
	go c.nc.Write(framingtest.ClientFrame(framing.OpBinary, true, make([]byte, 1<<20), 1))
	if got := c.closeCode(); got != framing.CloseTooBig {
		t.Errorf("close code: got %d, want %d", got, framing.CloseTooBig)
	}
	c.nc.SetReadDeadline(time.Now().Add(12 * time.Second))
	if err := c.ended(); err != nil {
		t.Errorf("still open: %v", err)
	}
}

// Frames that arrive byte by byte are understood.
func TestTrickle(t *testing.T) {
	w := newWorld(t, 1)
	g := w.gateway(Config{})
	c := rawDial(t, g, "user_1", "")
	c.message()
	for _, b := range framingtest.ClientFrame(framing.OpText, true, []byte(`{"type":"ping"}`), 0xDEADBEEF) {
		c.sendBytes([]byte{b})
	}
	if m := c.message(); m.Type != "pong" {
		t.Errorf("got %+v, want pong", m)
	}
	c.sendFrame(framing.OpPing, []byte("echo"))
	op, payload, err := c.frame()
	if err != nil || op != framing.OpPong || string(payload) != "echo" {
		t.Errorf("answer to a ping: op %d %q, %v", op, payload, err)
	}
}
