package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/internal/trouble"
	"eventstream/lane"
	"eventstream/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts services with these answers, and returns a client of them all.
func serve(t *testing.T, answers ...func(context.Context, Request, *Writer) error) *Client {
	t.Helper()
	var urls []string
	for _, answer := range answers {
		mux := http.NewServeMux()
		mux.Handle("POST /replay", Handler(answer, nil, testenv.Log(t)))
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	c, err := NewClient(urls, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func entry(offsets ...int64) []byte {
	var p lane.Packer
	for _, o := range offsets {
		p.Add(o, 1000+o, fmt.Appendf(nil, `{"event_type":"a","n":%d}`, o), nil)
	}
	return p.Bytes()
}

// script is an answer that is written as it stands.
type script struct {
	from, to []int64
	lost     []Lost
	batches  []Batch
}

var whole = script{
	from: []int64{5, 0}, to: []int64{20, 7}, lost: []Lost{{0, 2, 5, wire.GapTrimmed}},
	batches: []Batch{
		{Partition: 0, Next: 11, Entry: entry(6, 10)},
		{Partition: 0, Next: 12},
		{Partition: 0, Next: 20, Entry: entry(19), Lost: &Lost{0, 12, 15, wire.GapTrimmed}},
		{Partition: 1, Next: 7, Lost: &Lost{1, 0, 7, wire.GapLimit}},
	},
}

func (s script) write(w *Writer) error {
	if err := w.Begin(s.from, s.to, s.lost); err != nil {
		return err
	}
	for _, b := range s.batches {
		if err := w.Batch(b); err != nil {
			return err
		}
	}
	return nil
}

// drain reads a Stream to its end.
func drain(s *Stream) (all []Batch, err error) {
	for {
		b, err := s.Next()
		if err != nil {
			return all, err
		}
		b.Entry = bytes.Clone(b.Entry)
		all = append(all, b)
	}
}

func TestWhole(t *testing.T) {
	asked := Request{
		Subscriber: "ann", Topic: event.TopicID{1, 2, 3}, From: []int64{2, 0}, Until: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
	}
	c := serve(t, func(_ context.Context, r Request, w *Writer) error {
		if !reflect.DeepEqual(r, asked) {
			t.Errorf("asked for %+v, want %+v", r, asked)
		}
		if err := whole.write(w); err != nil {
			return err
		}
		return w.End()
	})
	s, err := c.Open(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := drain(s)
	if err != io.EOF {
		t.Errorf("ends with %v, want io.EOF", err)
	}
	for i := range all {
		if len(all[i].Entry) == 0 {
			all[i].Entry = nil
		}
	}
	if got := (script{s.From(), s.To(), s.Lost(), all}); !reflect.DeepEqual(got, whole) {
		t.Errorf("got %+v\nwant %+v", got, whole)
	}
	if _, err := s.Next(); err != io.EOF {
		t.Errorf("after the end: %v, want io.EOF", err)
	}
}

// TestCut cuts a stream at every byte: only the whole one is complete.
func TestCut(t *testing.T) {
	rec := httptest.NewRecorder()
	w := &Writer{w: rec, rc: http.NewResponseController(rec)}
	if err := whole.write(w); err != nil {
		t.Fatal(err)
	}
	w.End()
	raw := rec.Body.Bytes()
	for n := range len(raw) + 1 {
		_, _, err := decode(raw[:n])
		if want := io.ErrUnexpectedEOF; n < len(raw) && err != want {
			t.Errorf("cut at %d of %d: %v, want %v", n, len(raw), err, want)
		} else if n == len(raw) && err != io.EOF {
			t.Errorf("whole: %v, want io.EOF", err)
		}
	}
}

func TestBreaksOff(t *testing.T) {
	c := serve(t, func(_ context.Context, _ Request, w *Writer) error {
		return errors.Join(whole.write(w), errors.New("Kafka is gone"))
	})
	s, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := drain(s)
	if len(all) != len(whole.batches) || !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "Kafka is gone") {
		t.Errorf("got %d batches and %v, want %d and that Kafka is gone", len(all), err, len(whole.batches))
	}
}

// TestDies has a service that dies in the middle.
func TestDies(t *testing.T) {
	c := serve(t, func(_ context.Context, _ Request, w *Writer) error {
		whole.write(w)
		panic(http.ErrAbortHandler)
	})
	s, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if all, err := drain(s); err == io.EOF || err == nil {
		t.Errorf("got %d batches and %v, want an error", len(all), err)
	}
}

func TestRefused(t *testing.T) {
	asked := Request{Subscriber: "ann", From: []int64{1}, To: []int64{2}}
	for _, want := range []error{ErrRequest, ErrOtherTopic, ErrBeyondEnd} {
		answer := func(context.Context, Request, *Writer) error { return fmt.Errorf("%w: because", want) }
		if _, err := serve(t, answer, answer).Open(t.Context(), asked); !errors.Is(err, want) || !strings.Contains(err.Error(), "because") {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// TestTold: an operator reads why nobody replays, once for many who ask.
func TestTold(t *testing.T) {
	var log bytes.Buffer
	c := serve(t, func(context.Context, Request, *Writer) error { return Busy(time.Second, errors.New("too many")) })
	c.trouble = trouble.New(slog.New(slog.NewTextHandler(&log, nil)), "fails", "works")
	for range 3 {
		c.Open(t.Context(), Request{Subscriber: "a", From: []int64{1}})
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, c.names[0]) || !strings.Contains(text, "too many") {
		t.Errorf("the log says\n%s\nwant one line with the service and its reason", text)
	}
}

func TestUnavailable(t *testing.T) {
	c := serve(t,
		func(context.Context, Request, *Writer) error { return Busy(7*time.Second, errors.New("too many")) },
		func(context.Context, Request, *Writer) error { return errors.New("a bug") },
		func(context.Context, Request, *Writer) error { return ErrElsewhere })
	_, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()})
	un, ok := errors.AsType[*Unavailable](err)
	if !ok || !errors.Is(err, ErrUnavailable) || un.RetryAfter != 7*time.Second || !strings.Contains(err.Error(), "too many") {
		t.Errorf("got %v, want unavailable for 7 s, too many", err)
	}
}

// TestTurns has one service that is busy, one of another shard, and one that serves:
// it is found, and remembered.
func TestTurns(t *testing.T) {
	elsewhere := 0
	c := serve(t,
		func(context.Context, Request, *Writer) error { elsewhere++; return ErrElsewhere },
		func(_ context.Context, _ Request, w *Writer) error {
			return errors.Join(w.Begin(nil, nil, nil), w.End())
		})
	for range 5 {
		s, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if all, err := drain(s); len(all) != 0 || err != io.EOF {
			t.Errorf("got %d batches, %v", len(all), err)
		}
		s.Close()
	}
	if elsewhere != 1 {
		t.Errorf("the wrong service was asked %d times, want once", elsewhere)
	}
}

func TestSilence(t *testing.T) {
	c := serve(t, func(ctx context.Context, _ Request, w *Writer) error {
		w.Begin([]int64{0}, []int64{10}, nil)
		<-ctx.Done()
		return ctx.Err()
	})
	c.silence = 50 * time.Millisecond
	s, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(); !errors.Is(err, errSilent) {
		t.Errorf("got %v, want %v", err, errSilent)
	}
}

// A service that hangs before its stream begins, wherever it does, holds up nobody.
func TestHangsBeforeTheStream(t *testing.T) {
	for _, says := range []string{"", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\n{", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"} {
		for _, scheme := range []string{"http", "https"} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var conns sync.WaitGroup
			conns.Go(func() {
				for {
					nc, err := ln.Accept()
					if err != nil {
						return
					}
					conns.Go(func() {
						defer nc.Close()
						io.WriteString(nc, says)
						io.Copy(io.Discard, nc)
					})
				}
			})
			c, err := NewClient([]string{scheme + "://" + ln.Addr().String()}, nil, testenv.Log(t))
			if err != nil {
				t.Fatal(err)
			}
			c.opening, c.silence = 100*time.Millisecond, 100*time.Millisecond
			if _, err := c.Open(t.Context(), Request{Subscriber: "ann", Since: time.Now()}); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s, %q: %v, want %v", scheme, says, err, ErrUnavailable)
			}
			c.http.CloseIdleConnections()
			ln.Close()
			conns.Wait()
		}
	}
}

func TestContextEnds(t *testing.T) {
	gone := make(chan struct{})
	c := serve(t, func(ctx context.Context, _ Request, w *Writer) error {
		defer close(gone)
		w.Begin([]int64{0}, []int64{10}, nil)
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Open(ctx, Request{Subscriber: "ann", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if _, err := s.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	<-gone // the service notices
}

func TestRequests(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{"subscriber":"a","from":[1,2]}`, ""},
		{`{"subscriber":"a","from":[1,2],"to":[1]}`, ""},
		{`{"subscriber":"a","since":"2026-01-02T03:04:05Z"}`, ""},
		{`{"subscriber":"a","since":"2026-01-02T03:04:05Z","to":[5]}`, ""},
		{``, "want one JSON object"},
		{`[]`, "want one JSON object"},
		{`{"subscriber":"a","from":[1]}{}`, "follows"},
		{`{"subscriber":"a","fron":[1]}`, "fron"},
		{`{"subscriber":"","from":[1]}`, "subscriber: required"},
		{`{"subscriber":"a"}`, "want from or since"},
		{`{"subscriber":"a","from":[1],"to":[1],"until":"2026-01-02T03:04:05Z"}`, "not both"},
		{`{"subscriber":"a","from":[2],"to":[1]}`, "partition 0: to 1 is before from 2"},
		{`{"subscriber":"a","from":[2],"to":[2,3]}`, "to has 2 partitions, from has 1"},
		{`{"subscriber":"a","from":[-1]}`, "-1 is no offset"},
		{`{"subscriber":"a","from":[1.5]}`, "want one JSON object"},
		{`{"subscriber":"a","from":[1],"topic":"0102"}`, "32 hex digits"},
		{`{"subscriber":"a","since":"2026-01-02T03:04:05Z","until":"2026-01-02T03:04:04Z"}`, "until is before since"},
		{`{"subscriber":"a","since":"1926-01-02T03:04:05Z"}`, "a year from 1970"},
	} {
		_, err := decodeRequest([]byte(tt.body))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.body, err, tt.want)
		}
	}
}

func TestURLs(t *testing.T) {
	for _, bad := range [][]string{nil, {""}, {"127.0.0.1:8002"}, {"ftp://a"}, {"http://a?x=1"}} {
		if _, err := NewClient(bad, nil, nil); err == nil {
			t.Errorf("%q is taken for URLs of filter services", bad)
		}
	}
}
