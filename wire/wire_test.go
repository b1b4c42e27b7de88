package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"eventstream/event"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	first  = event.ID{Partition: 3, Offset: 10293}
	second = event.ID{Partition: 0, Offset: 7}
)

// messages are all that a gateway sends: how it is encoded, and what a client
// decodes. Each has a golden file.
var messages = map[string]struct {
	encoded []byte
	want    Message
}{
	"hello": {
		AppendHello(nil, "user_1", "Y3Vyc29y", false, 25),
		Message{Type: Hello, SubscriberID: "user_1", Cursor: "Y3Vyc29y", HeartbeatS: 25, Protocol: 1},
	},
	"hello_resumed": {
		AppendHello(nil, `<"é&\>`, "Y3Vyc29y", true, 25),
		Message{Type: Hello, SubscriberID: `<"é&\>`, Cursor: "Y3Vyc29y", Resumed: true, HeartbeatS: 25, Protocol: 1},
	},
	"event": {
		events("", Event{first.String(), 1767323045678, json.RawMessage(`{"event_type":"a"}`)}),
		Message{Type: Events, Events: []Event{{"3-10293", 1767323045678, json.RawMessage(`{"event_type":"a"}`)}}},
	},
	"events_cursor": {
		events("Y3Vyc29y",
			Event{first.String(), 1767323045678, json.RawMessage(`{"event_type":"a","x":"<é>"}`)},
			Event{second.String(), -1, json.RawMessage(`{ "event_type" : "b" }`)}),
		Message{Type: Events, Cursor: "Y3Vyc29y", Events: []Event{
			{"3-10293", 1767323045678, json.RawMessage(`{"event_type":"a","x":"<é>"}`)},
			{"0-7", -1, json.RawMessage(`{ "event_type" : "b" }`)},
		}},
	},
	"close": {
		AppendClose(nil, CloseExpired, "the token has expired"),
		Message{Type: Close, CloseCode: 4004, Reason: "the token has expired"},
	},
	"cursor": {
		AppendCursor(nil, "Y3Vyc29y"),
		Message{Type: Cursor, Cursor: "Y3Vyc29y"},
	},
	"gap": {
		AppendGap(nil, "b2xk", "bmV3", GapTrimmed, nil),
		Message{Type: Gap, From: "b2xk", Cursor: "bmV3", To: "bmV3", Reason: GapTrimmed},
	},
	"gap_missing": {
		AppendGap(nil, "", "bmV3", GapLimit, []Missing{{3, 100, 250}, {4, 0, 7}}),
		Message{Type: Gap, Cursor: "bmV3", To: "bmV3", Reason: GapLimit, Missing: []Missing{{3, 100, 250}, {4, 0, 7}}},
	},
	"acked": {
		AppendAcked(nil, "Y3Vyc29y", ""),
		Message{Type: Acked, Cursor: "Y3Vyc29y"},
	},
	"acked_seen": {
		AppendAcked(nil, "Y3Vyc29y", "0-7,3-12"),
		Message{Type: Acked, Cursor: "Y3Vyc29y", Seen: "0-7,3-12"},
	},
	"token": {
		AppendToken(nil, 1767323045),
		Message{Type: Token, Expires: 1767323045},
	},
	"error": {
		AppendError(nil, "bad_request", `type "<x>" & co`),
		Message{Type: Error, Code: "bad_request", Text: `type "<x>" & co`},
	},
	"pong": {
		[]byte(PongMessage),
		Message{Type: Pong},
	},
}

// events encodes an events message as a gateway does.
func events(cursor string, list ...Event) []byte {
	b := AppendEventsHead(nil)
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		id, err := event.ParseID(e.ID)
		if err != nil {
			panic(err)
		}
		b = AppendEvent(b, id, e.TS, e.Data)
	}
	if cursor == "" {
		return append(b, EventsTail...)
	}
	return AppendEventsTail(b, cursor)
}

func TestMessages(t *testing.T) {
	for name, m := range messages {
		if got := decode(t, m.encoded); !reflect.DeepEqual(got, m.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, m.want)
		}
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, append(m.encoded, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v; -update writes it", err)
		}
		if got, want := string(m.encoded), strings.TrimSuffix(string(golden), "\n"); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// A golden file without a message is one that nobody sends any more.
func TestGoldenFilesAreInUse(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := messages[strings.TrimSuffix(filepath.Base(f), ".json")]; !ok {
			t.Errorf("%s: no such message", f)
		}
	}
}

// decode is what a client does. It wants valid UTF-8 too: a text frame that is
// not is a protocol error.
func decode(t interface{ Fatalf(string, ...any) }, b []byte) Message {
	var m Message
	if !utf8.Valid(b) {
		t.Fatalf("%q: not valid UTF-8", b)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return m
}

// All of Message's fields are those of some message, so that the golden files
// cover the format.
func TestEveryFieldIsCovered(t *testing.T) {
	covered := make(map[string]bool)
	for _, m := range messages {
		v := reflect.ValueOf(m.want)
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				covered[v.Type().Field(i).Name] = true
			}
		}
	}
	for f := range reflect.TypeFor[Message]().Fields() {
		if !covered[f.Name] {
			t.Errorf("field %s: no message has it", f.Name)
		}
	}
}

// Whatever text a subscriber, a code or a message holds, it comes through, and
// what is appended to is kept. Text in HTML's special characters is escaped
// (\u003c), which means the same to every JSON decoder and is safe where a
// browser shows it; invalid UTF-8 becomes U+FFFD.
func TestTextComesThrough(t *testing.T) {
	odd := []string{"", `"`, `\`, "\\u0041", "\x00\x1f\x7f", "</script>", "\u2028\u2029", "\xff\xfe", "\xed\xa0\x80", "😀", strings.Repeat("é", 1000)}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom(odd), rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		resumed, heartbeat := rapid.Bool().Draw(t, "resumed"), rapid.IntMin(0).Draw(t, "heartbeat")

		hello := AppendHello([]byte("x"), a, "c", resumed, heartbeat)
		want := Message{Type: Hello, SubscriberID: utf8Text(a), Cursor: "c", Resumed: resumed, HeartbeatS: heartbeat, Protocol: Version}
		if got := decode(t, hello[1:]); !reflect.DeepEqual(got, want) || hello[0] != 'x' {
			t.Errorf("got %+v, want %+v", got, want)
		}
		want = Message{Type: Error, Code: utf8Text(a), Text: utf8Text(b)}
		if got := decode(t, AppendError(nil, a, b)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// utf8Text replaces each invalid byte by U+FFFD; strings.ToValidUTF8 would do
// it once for a run of them.
func utf8Text(s string) string { return string([]rune(s)) }

func TestEventsComeThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(anyEvent), 1, 50).Draw(t, "events")
		cursor := rapid.StringMatching(`[A-Za-z0-9_-]{0,40}`).Draw(t, "cursor")
		want := Message{Type: Events, Cursor: cursor, Events: list}
		if got := decode(t, events(cursor, list...)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func anyEvent(t *rapid.T) Event {
	id := event.ID{Partition: rapid.Int32Min(0).Draw(t, "partition"), Offset: rapid.Int64Min(0).Draw(t, "offset")}
	data, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data"))
	if err != nil {
		t.Fatal(err)
	}
	return Event{id.String(), rapid.Int64().Draw(t, "ts"), data}
}

// Large events messages are made without a copy of what they hold.
func TestEventsMessageAllocs(t *testing.T) {
	data := []byte(`{"event_type":"a"}`)
	buf := make([]byte, 0, 1<<16)
	n := testing.AllocsPerRun(100, func() {
		b := AppendEventsHead(buf)
		for i := range 100 {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendEvent(b, first, 1767323045678, data)
		}
		AppendEventsTail(b, "Y3Vyc29y")
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestParseToken(t *testing.T) {
	got, err := ParseRequest([]byte(`{"type":"token","token":"a.b.c"}`))
	if want := (Request{Type: Token, Token: "a.b.c"}); got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParseAck(t *testing.T) {
	got, err := ParseRequest([]byte(`{"type":"ack","cursor":"Y3Vyc29y"}`))
	if want := (Request{Type: Ack, Cursor: "Y3Vyc29y"}); got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParseRequest(t *testing.T) {
	for _, tt := range []struct {
		body string
		want string // part of the error; empty if it is accepted
	}{
		{`{"type":"ping"}`, ""},
		{" {\n\"type\" : \"p\\u0069ng\", \"at\": 1 }", ""},
		{`{"type":"ack"}`, "ack without a cursor"},
		{`{"type":"token"}`, "token without a token"},
		{`{"type":"pong"}`, `type "pong"; allowed are "ping", "ack" and "token"`},
		{`{"type":"` + strings.Repeat("x", 1000) + `"}`, strings.Repeat("x", 40) + `"; allowed`},
		{`{"type":"<é>"}`, `type "<é>"`},
		{`{}`, `type ""`},
		{`null`, `type ""`},
		{`{"type":1}`, "want a JSON object"},
		{`{"type":null}`, `type ""`},
		{`"ping"`, "want a JSON object"},
		{`[]`, "want a JSON object"},
		{`ping`, "want a JSON object"},
		{`{"type":"ping"}{}`, "want a JSON object"},
		{``, "want a JSON object"},
	} {
		r, err := ParseRequest([]byte(tt.body))
		if tt.want == "" {
			if err != nil || r.Type != Ping {
				t.Errorf("%s: got %+v, %v, want a ping", tt.body, r, err)
			}
			continue
		}
		if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), tt.want) || r != (Request{}) {
			t.Errorf("%s: got %+v, %v, want %q", tt.body, r, err, tt.want)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%.40s: an error of %d bytes", tt.body, len(err.Error()))
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"type":"ping"}`, `{"Type":"ping","type":"pong"}`, `{"type":null}`, "null", `{"type":"\ud800"}`, `{"type":"ping","type":null}`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		r, err := ParseRequest(b)
		if !bytes.Equal(b, before) {
			t.Fatalf("changed %q to %q", before, b)
		}
		if err != nil {
			if !errors.Is(err, ErrRequest) || r != (Request{}) {
				t.Fatalf("%q: got %+v, %v, want %v", b, r, err, ErrRequest)
			}
			decode(t, AppendError(nil, "bad_request", err.Error())) // it is sent back
			return
		}
		if !isPing(b) {
			t.Fatalf("%q: accepted", b)
		}
	})
}

// isPing reports whether b is a JSON object in which a key type, in any case,
// has the value "ping". If the key is there twice, either will do.
func isPing(b []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(b))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') || !json.Valid(b) {
		return false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return false
		}
		var v any
		if err := dec.Decode(&v); err != nil {
			return false
		}
		if strings.EqualFold(key.(string), "type") && v == Ping {
			return true
		}
	}
	return false
}
