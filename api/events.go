package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// Replays are the filter services. They replay a subscriber's events that Kafka still holds.
type Replays interface {
	Open(context.Context, replay.Request) (*replay.Stream, error)
	// Explain returns what each filter service has in memory.
	Explain(context.Context, replay.Question) ([]replay.Live, error)
}

// streamEvents answers with the events of a subscriber, one a line. Lost events are
// reported in lines too. If the replay fails, the stream is cut: only a stream with a
// proper end is complete.
func (s *Server) streamEvents(ctx *fasthttp.RequestCtx) error {
	req, err := eventsRequest(ctx, time.Now())
	if err != nil {
		return err
	}
	free, err := s.streams.take(ctx, noReplay)
	if err != nil {
		return err
	}
	streaming, cancel := context.WithCancel(s.streaming)
	stream, err := s.replays.Open(streaming, req)
	if err != nil {
		cancel()
		free()
		return err
	}
	conn := ctx.Conn()
	b := &eventsBody{stream: stream, lost: stream.Lost()}
	b.cut = context.AfterFunc(streaming, func() { conn.Close() })
	b.done = func() {
		b.cut()
		stream.Close()
		cancel()
		free()
	}
	ctx.SetStatusCode(fasthttp.StatusOK)
	ctx.Response.Header.SetContentType("application/x-ndjson")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.ImmediateHeaderFlush = true
	ctx.SetBodyStream(s.paced(b, conn), -1)
	return nil
}

// eventsBody is a replay as NDJSON. If Read returns an error other than io.EOF,
// fasthttp closes the connection without ending the body.
type eventsBody struct {
	stream *replay.Stream
	lost   []replay.Lost // not yet in lines
	lines  []byte        // not read yet
	buf    []byte        // the memory of lines
	cut    func() bool
	done   func()
}

func (b *eventsBody) Read(p []byte) (int, error) {
	for len(b.lines) == 0 {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.lines)
	b.lines = b.lines[n:]
	return n, nil
}

// fill encodes the next batch.
func (b *eventsBody) fill() error {
	b.buf = b.buf[:0]
	if len(b.lost) == 0 {
		batch, err := b.stream.Next()
		if err != nil {
			return err
		}
		if b.buf, err = appendLines(b.buf, batch); err != nil {
			return err
		}
		if batch.Lost != nil {
			b.lost = append(b.lost, *batch.Lost)
		}
	}
	for _, l := range b.lost {
		b.buf = appendGap(b.buf, l)
	}
	b.lost, b.lines = nil, b.buf
	return nil
}

// Close is called when the response is over, however it ended.
func (b *eventsBody) Close() error {
	b.done()
	return nil
}

func appendLines(dst []byte, batch replay.Batch) ([]byte, error) {
	if len(batch.Entry) == 0 {
		return dst, nil
	}
	var u lane.Unpacker
	for u.Open(batch.Entry); u.Next(); {
		at := len(dst)
		dst = wire.AppendEvent(dst, event.ID{Partition: batch.Partition, Offset: u.Offset}, u.TimeMs, u.Data)
		oneLine(dst[at:])
		dst = append(dst, '\n')
	}
	return dst, u.Err()
}

// oneLine replaces line breaks by spaces. In JSON they occur only between tokens.
func oneLine(b []byte) {
	for i := bytes.IndexAny(b, "\n\r"); i >= 0; i = bytes.IndexAny(b, "\n\r") {
		b[i], b = ' ', b[i+1:]
	}
}

// gapLine says that the events of a range of offsets are lost.
type gapLine struct {
	Gap gap `json:"gap"`
}

type gap struct {
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"` // not included
	Reason    string `json:"reason"`
}

func appendGap(dst []byte, l replay.Lost) []byte {
	line, _ := json.Marshal(gapLine{gap(l)}) // numbers and a string always marshal
	return append(append(dst, line...), '\n')
}

// eventsRequest parses the path and the query.
func eventsRequest(ctx *fasthttp.RequestCtx, now time.Time) (replay.Request, error) {
	raw, _ := ctx.UserValue("id").(string)
	id, err := url.PathUnescape(raw)
	if err == nil {
		err = filter.CheckSubscriberID(id)
	}
	if err != nil {
		return replay.Request{}, &problem{kind: badSubscriber, detail: err.Error()}
	}
	req := replay.Request{Subscriber: id}
	bad := &problem{kind: badQuery}
	seen := make(map[string]bool)
	complain := func(key, detail string) {
		bad.errors = append(bad.errors, filter.Problem{Field: fmt.Sprintf("?%.60s", key), Detail: detail})
	}
	for k, v := range ctx.QueryArgs().All() {
		key := string(k)
		if err := setTime(&req, key, string(v), seen[key], now); err != nil {
			complain(key, err.Error())
		}
		seen[key] = true
	}
	switch {
	case !seen["since"]:
		complain("since", "required: from when on, such as 1h (ago) or 2026-01-02T03:04:05Z")
	case len(bad.errors) == 0 && !req.Until.IsZero() && req.Until.Before(req.Since):
		complain("until", "is before since")
	}
	if len(bad.errors) > 0 {
		return replay.Request{}, bad
	}
	return req, nil
}

func setTime(req *replay.Request, key, value string, again bool, now time.Time) error {
	var at *time.Time
	switch key {
	case "since":
		at = &req.Since
	case "until":
		at = &req.Until
	default:
		return errors.New("unknown; allowed are since, until")
	}
	if again {
		return errors.New("given twice")
	}
	t, err := parseTime(value, now)
	if err == nil && key == "since" && t.After(now.Add(time.Minute)) {
		err = errors.New("is in the future")
	}
	*at = t
	return err
}

// parseTime parses an RFC 3339 time, or a duration before now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil {
		if ago < 0 || now.Add(-ago).Year() < 1970 {
			return time.Time{}, fmt.Errorf("%.60q: want a duration before now, such as 1h", s)
		}
		return now.Add(-ago), nil
	}
	// A plus sign that was not escaped has become a space.
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(s, " ", "+"))
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%.60q: want a duration such as 1h (ago), or a time such as 2026-01-02T03:04:05Z", s)
	}
	return t, nil
}

// unreplayed returns the answer if no filter service can serve the replay.
func unreplayed(err error) *problem {
	p := &problem{kind: noReplay, detail: "no filter service replays events at the moment"}
	if un, ok := errors.AsType[*replay.Unavailable](err); ok && un.RetryAfter > 0 {
		p.retryAfter = strconv.Itoa(int(math.Ceil(un.RetryAfter.Seconds())))
	}
	return p
}
