package producer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"eventstream/event"
	"eventstream/internal/testenv"
)

func compressed(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

func TestReader(t *testing.T) {
	long := `{"event_type":"a","x":"` + strings.Repeat("y", maxLine) + `"}`
	longest := `{"event_type":"a","x":"` + strings.Repeat("y", maxLine-len(`{"event_type":"a","x":""}`)) + `"}`
	type want struct {
		key, value string
		line       int64 // of an error
		err        error
	}
	for _, tt := range []struct {
		name, in string
		want     []want
	}{
		{"nothing", "", nil},
		{"blank lines", "\n\r\n  \n", nil},
		{"two", `{"event_type":"a","user_id":"u1"}` + "\n" + `{"event_type":"b"}` + "\n", []want{
			{key: "u1", value: `{"event_type":"a","user_id":"u1"}`}, {value: `{"event_type":"b"}`}}},
		{"no end of line", `{"event_type":"a"}`, []want{{value: `{"event_type":"a"}`}}},
		{"carriage returns", "{\"event_type\":\"a\"}\r\n\r\n{\"event_type\":\"b\"}\r\n", []want{
			{value: `{"event_type":"a"}`}, {value: `{"event_type":"b"}`}}},
		{"byte order mark", "\xef\xbb\xbf" + `{"event_type":"a"}`, []want{{value: `{"event_type":"a"}`}}},
		{"compressed", compressed(`{"event_type":"a"}` + "\n" + `{"event_type":"b"}`), []want{
			{value: `{"event_type":"a"}`}, {value: `{"event_type":"b"}`}}},
		{"number as user", `{"event_type":"a","user_id":17}`, []want{{key: "17", value: `{"event_type":"a","user_id":17}`}}},
		{"escaped user", `{"event_type":"a","user_id":"\u00e9"}`, []want{{key: "é", value: `{"event_type":"a","user_id":"\u00e9"}`}}},
		{"bad lines", "x\n\n{}\n" + `{"event_type":"a"}` + "\n[1]\n\"\xff\"\n", []want{
			{line: 1, err: event.ErrNotJSON}, {line: 3, err: event.ErrNoType}, {value: `{"event_type":"a"}`},
			{line: 5, err: event.ErrNotObject}, {line: 6, err: event.ErrNotUTF8}}},
		{"too long a line", long + "\n" + `{"event_type":"b"}`, []want{{line: 1, err: ErrLineTooLong}, {value: `{"event_type":"b"}`}}},
		{"too long a last line", long, []want{{line: 1, err: ErrLineTooLong}}},
		{"far too long a line", strings.Repeat("z", 3*maxLine) + "\n" + `{"event_type":"b"}`, []want{{line: 1, err: ErrLineTooLong}, {value: `{"event_type":"b"}`}}},
		{"the longest line", longest + "\r\n" + `{"event_type":"b"}`, []want{{value: longest}, {value: `{"event_type":"b"}`}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(tt.in), iotest.DataErrReader(strings.NewReader(tt.in))} {
				r := NewReader(in)
				var got []Event // kept, to see that they don't share memory
				for i, w := range tt.want {
					ev, err := r.Next()
					if w.err != nil {
						bad, ok := errors.AsType[*LineError](err)
						if !ok || bad.Line != w.line || !errors.Is(err, w.err) {
							t.Fatalf("event %d: got %v, want line %d: %v", i, err, w.line, w.err)
						}
					} else if err != nil {
						t.Fatalf("event %d: %v", i, err)
					}
					got = append(got, ev)
				}
				if _, err := r.Next(); err != io.EOF {
					t.Errorf("after the last: got %v, want EOF", err)
				}
				for i, w := range tt.want {
					if string(got[i].Key) != w.key || string(got[i].Value) != w.value {
						t.Errorf("event %d: got %.100q: %.100q, want %.100q: %.100q", i, got[i].Key, got[i].Value, w.key, w.value)
					}
				}
			}
		})
	}
}

func TestReaderFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, in := range map[string]io.Reader{
		"at once":          iotest.ErrReader(broken),
		"later":            io.MultiReader(strings.NewReader(`{"event_type":"a"}`+"\n"), iotest.ErrReader(broken)),
		"inside of a line": io.MultiReader(strings.NewReader(`{"event_type":`), iotest.ErrReader(broken)),
	} {
		r := NewReader(in)
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want %v", name, err, broken)
		}
	}
	half := compressed(strings.Repeat(`{"event_type":"a"}`+"\n", 1000))
	r := NewReader(strings.NewReader(half[:len(half)/2]))
	var err error
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a gzip file: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// The real events, if they are there.
func TestReaderOnRealEvents(t *testing.T) {
	path, ok := testenv.Data(t)
	if !ok {
		t.Skip("no data")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := NewReader(f)
	n := 0
	for ; ; n++ {
		ev, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(ev.Key) == 0 {
			t.Fatalf("event %d has no key: %s", n, ev.Value)
		}
	}
	if n < 1000 {
		t.Errorf("got %d events, want more", n)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"event_type":"a","user_id":"u"}` + "\n{}\n"))
	f.Add([]byte(compressed(`{"event_type":"a"}`)))
	f.Add([]byte("\xef\xbb\xbf\r\n\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var d event.Decoder
		for lines := 0; ; lines++ {
			ev, err := r.Next()
			if _, bad := errors.AsType[*LineError](err); bad {
				continue
			}
			if err != nil {
				return
			}
			if _, err := d.Decode(ev.Value, nil); err != nil {
				t.Fatal(fmt.Errorf("got %q, no event: %w", ev.Value, err))
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	line := `{"event_id":"536365-1","event_type":"purchase","user_id":"c17850","user_tier":"free","amount":15.3,"timestamp":"2010-12-01T08:26:00Z","country":"United Kingdom","currency":"GBP","quantity":6,"sku":"85123A","product":"WHITE HANGING HEART T-LIGHT HOLDER"}` + "\n"
	r := NewReader(&endless{line: line})
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats a line.
type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line[e.at:])
	e.at = (e.at + n) % len(e.line)
	return n, nil
}
