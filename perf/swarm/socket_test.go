//go:build linux

package main

import (
	"errors"
	"fmt"
	"testing"
)

func TestTake(t *testing.T) {
	for _, tt := range []struct {
		name        string
		got         []int32 // numbers, negative: of another stream
		first, last int32   // what was due
		want        tally
	}{
		{"all", []int32{4, 5, 6}, 4, 6, tally{Received: 3}},
		{"more than was due", []int32{3, 4, 5, 6, 7}, 4, 6, tally{Received: 5}},
		{"none", nil, 4, 6, tally{Missing: 3, Unserved: 1}},
		{"none was due", nil, 4, 3, tally{}},
		{"no first", []int32{5, 6}, 4, 6, tally{Received: 2, Missing: 1, Unserved: 1}},
		{"no last", []int32{4, 5}, 4, 6, tally{Received: 2, Missing: 1, Unserved: 1}},
		{"hole", []int32{4, 6}, 4, 6, tally{Received: 2, Missing: 1, Unserved: 1}},
		{"twice", []int32{4, 5, 5, 6}, 4, 6, tally{Received: 4, Twice: 1}},
		{"swapped", []int32{4, 6, 5}, 4, 6, tally{Received: 3, Order: 1}},
		{"swapped and twice", []int32{4, 6, 5, 5}, 4, 6, tally{Received: 4, Order: 1, Twice: 1}},
		{"another's", []int32{4, -1, 5, 6}, 4, 6, tally{Received: 4, Extra: 1}},
	} {
		var got tally
		s := socket{stream: 7}
		for _, n := range tt.got {
			if n < 0 {
				s.take(8, -n, &got)
			} else {
				s.take(7, n, &got)
			}
		}
		s.judge(tt.first, tt.last, &got)
		if got != tt.want {
			t.Errorf("%s: tally = %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestMessage(t *testing.T) {
	var got tally
	var delays []int64
	s := socket{stream: 3}
	for _, m := range []string{
		`{"type":"hello","subscriber_id":"x"}`,
		`{"type":"events","events":[{"id":"1-1","ts":5,"data":{"event_type":"a","user_id":"b","stream":3,"seq":1,"at_us":900,"amount":1}},` +
			`{"id":"1-2","ts":5,"data":{"event_type":"a","user_id":"b","stream":3,"seq":2,"at_us":950,"amount":1}}],"cursor":"c"}`,
		`{"type":"cursor","cursor":"c"}`,
		`{"type":"gap","to":"c"}`,
		`{"stream":1,"stream":`, // cut off: must not panic
	} {
		s.message([]byte(m), 1000, &got, func(at, now int64) { delays = append(delays, now-at) })
	}
	if s.since != 1000 || s.last != 2 || got.Gaps != 1 || fmt.Sprint(delays[:2]) != "[100 50]" {
		t.Errorf("socket %+v, tally %+v, delays %v; want since 1000, last 2, a gap, delays 100 and 50", s, got, delays)
	}
}

// TestResume checks what may come again after a socket was cut off, and where it goes on.
func TestResume(t *testing.T) {
	event := func(seq int) string { return fmt.Sprintf(`{"data":{"a":1,"stream":0,"seq":%d,"at_us":1}}`, seq) }
	for _, tt := range []struct {
		name           string
		before, after  []string
		query, request string
		want           tally
	}{
		{
			"ours", []string{`{"type":"hello","cursor":"A+"}`, `{"events":[` + event(1) + `,` + event(2) + `],"cursor":"B+"}`},
			[]string{`{"type":"hello","cursor":"B+","resumed":true}`, `{"events":[` + event(2) + `,` + event(3) + `]}`, event(3)},
			"&cursor=B%2B", `{"id":1,"connect":{"name":"n"}}`, tally{Received: 5, Seam: 1, Twice: 1},
		},
		{
			"centrifuge", []string{`{"id":1,"connect":{"subs":{"all":{"epoch":"E","offset":4}}}}`, `{"push":{"channel":"all","pub":{"data":` + event(1) + `,"offset":5}}}`},
			[]string{`{"id":1,"connect":{"subs":{"all":{"epoch":"E","publications":[{"data":` + event(2) + `,"offset":6}],"recovered":true,"offset":6}}}}`},
			"", `{"id":1,"connect":{"name":"n","subs":{"all":{"recover":true,"epoch":"E","offset":5}}}}`, tally{Received: 2},
		},
		{"others", []string{`{"type":"hello"}`, event(1)}, []string{`{"type":"hello"}`, event(3)}, "", `{"id":1,"connect":{"name":"n"}}`, tally{Received: 2, Missing: 1, Unserved: 1}},
	} {
		s, got := socket{resume: &place{}}, tally{}
		hear := func(messages []string) {
			s.hello = false
			for _, m := range messages {
				s.message([]byte(m), 5, &got, func(int64, int64) {})
			}
			if !s.hello {
				t.Errorf("%s: no hello", tt.name)
			}
		}
		hear(tt.before)
		if q, r := s.resume.query(), s.resume.request("n"); q != tt.query || r != tt.request {
			t.Errorf("%s: comes back with %q, %q; want %q, %q", tt.name, q, r, tt.query, tt.request)
		}
		s.seam = s.last
		hear(tt.after)
		s.judge(1, s.last, &got)
		if got != tt.want {
			t.Errorf("%s: tally %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestFrame(t *testing.T) {
	long := append([]byte{0x81, 126, 1, 0}, make([]byte, 256)...)
	for _, tt := range []struct {
		in   []byte
		n    int
		size int
		bad  bool
	}{
		{[]byte{0x81}, 0, 0, false},
		{[]byte{0x81, 2, 'h'}, 0, 0, false},
		{[]byte{0x81, 2, 'h', 'i', 0x81}, 4, 2, false},
		{long, 260, 256, false},
		{long[:259], 0, 0, false},
		{[]byte{0x81, 127, 0, 0}, 0, 0, false},
		{[]byte{0x01, 2, 'h', 'i'}, 0, 0, true},      // a fragment
		{[]byte{0x81, 0x82, 0, 0, 0, 0}, 0, 0, true}, // masked
		{[]byte{0xC1, 0}, 0, 0, true},                // compressed
		{[]byte{0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255}, 0, 0, true},
	} {
		_, payload, n, err := frame(tt.in)
		if n != tt.n || len(payload) != tt.size || errors.Is(err, errFrame) != tt.bad {
			t.Errorf("frame(%x) = %d bytes of payload, %d, %v; want %d, %d, an error: %t", tt.in[:min(12, len(tt.in))], len(payload), n, err, tt.size, tt.n, tt.bad)
		}
	}
}
