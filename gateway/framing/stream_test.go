package framing

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"eventstream/gateway/framing/framingtest"
)

func FuzzSSELines(f *testing.F) {
	f.Add([]byte("a\r\n\r\rb\n"))
	f.Fuzz(func(t *testing.T, json []byte) {
		if !utf8.Valid(json) {
			return
		}
		buf := append(make([]byte, HeadRoom), `{"type":"x",`...)
		buf = EventStream.AppendJSON(buf, json)
		stream, _ := EventStream.Seal(buf, OpText, "c")
		p := framingtest.Parser{R: bufio.NewReader(strings.NewReader(string(stream)))}
		want := strings.NewReplacer("\n", " ", "\r", " ").Replace(`{"type":"x",` + string(json))
		if e, err := p.Next(); err != nil || e != (framingtest.Event{Kind: "x", Data: want, ID: "c"}) {
			t.Errorf("%q: got %+v, %v", json, e, err)
		}
		if _, err := p.Next(); err != io.EOF {
			t.Errorf("%q: more than one event", json)
		}
	})
}
