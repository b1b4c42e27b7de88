package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"eventstream/filter"
)

// bulkDone is the answer to a change of many filters.
type bulkDone struct {
	Imported *int64 `json:"imported,omitempty"`
	Deleted  *int64 `json:"deleted,omitempty"`
	Applied  *bool  `json:"applied,omitempty"` // false if the filter service was not told
	Detail   string `json:"detail,omitempty"`
}

// When told of a bulk change, a filter service holds events back until it has read the
// changed filters. Without being told, it looks for changes every few seconds and does not
// hold events back. So after a large change it is told late, when it should have read most.
const (
	largeChange = 10_000
	lookEvery   = 2 * time.Second
	readOne     = 8 * time.Microsecond
	mostAhead   = 10 * time.Second
)

// ahead returns how long to wait before telling filter services of a change of n filters.
func ahead(n int64) time.Duration {
	if n < largeChange {
		return 0
	}
	return min(lookEvery+time.Duration(n)*readOne, mostAhead)
}

// tellBulk tells the filter service that n filters changed, then answers the client:
// 202 if the filter service couldn't be told.
func (s *Server) tellBulk(ctx *fasthttp.RequestCtx, n int64, done bulkDone) error {
	select {
	case <-time.After(ahead(n)):
	case <-s.streaming.Done():
	}
	publish := func(c context.Context) error {
		_, err := s.publisher.PublishBulk(c)
		return err
	}
	if s.tell(publish) != nil {
		done.Applied, done.Detail = new(false), notTold
		return writeJSON(ctx, fasthttp.StatusAccepted, done)
	}
	return writeJSON(ctx, fasthttp.StatusOK, done)
}

// deleteFilters deletes all filters of a subscriber. Having none is no error, so the
// request can be repeated.
func (s *Server) deleteFilters(ctx *fasthttp.RequestCtx) error {
	q := listQuery{}
	if err := parseQuery(ctx.QueryArgs(), q.set, "subscriber_id"); err != nil {
		return err
	}
	if q.subscriber == "" {
		return &problem{kind: badQuery, errors: []filter.Problem{{Field: "?subscriber_id", Detail: "required: whose filters to delete"}}}
	}
	if err := noHeaders(ctx, "If-Match", "If-None-Match", "Idempotency-Key"); err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	n, err := s.store.DeleteAll(c, q.subscriber)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	// Also if n is 0: an earlier request may have deleted them and died before telling.
	return s.tellBulk(ctx, n, bulkDone{Deleted: &n})
}

// noHeaders refuses headers that apply to a single filter only.
func noHeaders(ctx *fasthttp.RequestCtx, names ...string) error {
	for _, h := range names {
		if len(ctx.Request.Header.Peek(h)) > 0 {
			return &problem{kind: badHeader, detail: h + " has no meaning here: it is about a single filter"}
		}
	}
	return nil
}

// importFilters creates a filter for each line of the body, all or none. The lines are
// streamed to the store, so the store's speed limits the client's.
func (s *Server) importFilters(ctx *fasthttp.RequestCtx) error {
	if err := parseQuery(ctx.QueryArgs(), nil); err != nil {
		return err
	}
	if err := ndjson.check(ctx); err != nil {
		return err
	}
	if err := noHeaders(ctx, "If-Match", "If-None-Match"); err != nil {
		return err
	}
	key, err := idempotencyKey(ctx)
	if err != nil {
		return err
	}
	if length := ctx.Request.Header.ContentLength(); int64(length) > s.cfg.MaxImportBytes {
		ctx.SetConnectionClose()
		return refuseLarge(ctx.RequestBodyStream(), length, s.cfg.MaxImportBytes)
	}
	free, err := s.imports.take(ctx, busy)
	if err != nil {
		return err
	}
	defer free()
	c, cancel := context.WithTimeout(s.streaming, s.cfg.ImportTimeout)
	defer cancel()
	conn := ctx.Conn() // ctx is reused after we return, and the deadline may be set even then
	defer context.AfterFunc(c, func() { conn.SetReadDeadline(time.Now()) })()
	in := newImport(s.patientBody(c, ctx), s.cfg, s.metrics.importLines)
	var n int64
	var again bool
	if key == "" {
		n, err = s.store.Import(c, in.specs)
	} else {
		n, again, err = s.store.ImportOnce(c, in.specs, key)
	}
	if err == nil || in.err == nil {
		s.health.writes.wrote(err)
	}
	switch {
	case c.Err() != nil && err != nil:
		return &problem{kind: unavailable, detail: "the import was cut off, because it took too long or we are stopping"}
	case in.err != nil:
		return in.err
	case err != nil:
		return err
	}
	if again { // whether the filter service was told the first time is unknown
		ctx.Response.Header.Set("Idempotent-Replayed", "true")
	}
	return s.tellBulk(ctx, n, bulkDone{Imported: &n})
}

// patientBody returns the request's body as a stream. It fails if the body is cut short
// or too slow, or when c ends.
func (s *Server) patientBody(c context.Context, ctx *fasthttp.RequestCtx) io.Reader {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return eof{}
	}
	return &bodyStream{
		ctx: c, request: ctx, stream: stream, left: int64(max(ctx.Request.Header.ContentLength(), -1)),
		patience: s.cfg.ReadPatience, pace: pace{least: s.cfg.LeastRate, over: s.cfg.ReadPatience}, cut: s.metrics.slow.WithLabelValues("import"),
	}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

type bodyStream struct {
	ctx      context.Context
	request  *fasthttp.RequestCtx // for its deadline
	stream   io.Reader
	left     int64         // negative if unknown: then the stream detects a missing end
	patience time.Duration // with a client that sends nothing
	pace     pace
	cut      prometheus.Counter
}

func (b *bodyStream) Read(p []byte) (int, error) {
	began := time.Now()
	if err := b.request.SetReadDeadline(began.Add(b.patience)); err != nil {
		return 0, err
	}
	if err := b.ctx.Err(); err != nil { // checked after the deadline is set: the end of ctx sets it too
		return 0, err
	}
	n, err := b.stream.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && b.ctx.Err() == nil {
		b.cut.Inc()
		return n, &problem{kind: slowRequest, detail: fmt.Sprintf("nothing came for %v; nothing was imported", b.patience)}
	}
	if err == nil && b.pace.slow(n, time.Since(began)) {
		b.cut.Inc()
		b.request.SetReadDeadline(began) // don't wait for the rest
		return n, &problem{kind: slowRequest, detail: fmt.Sprintf("less than %d bytes a second came over %v; nothing was imported", b.pace.least, b.patience)}
	}
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// exportFilters answers with all filters, or those of a subscriber, one a line. They
// are read page by page, not as one snapshot.
func (s *Server) exportFilters(ctx *fasthttp.RequestCtx) error {
	var q listQuery
	if err := parseQuery(ctx.QueryArgs(), q.set, "subscriber_id"); err != nil {
		return err
	}
	free, err := s.streams.take(ctx, busy)
	if err != nil {
		return err
	}
	b := &exportBody{server: s, free: free, subscriber: q.subscriber}
	if err := b.fill(); err != nil && !errors.Is(err, io.EOF) {
		free()
		return err
	}
	ctx.SetStatusCode(fasthttp.StatusOK)
	ctx.Response.Header.SetContentType("application/x-ndjson")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBodyStream(s.paced(b, ctx.Conn()), -1)
	return nil
}

// exportBody is filters as NDJSON. If Read returns an error other than io.EOF, fasthttp
// closes the connection without ending the body.
type exportBody struct {
	server     *Server
	free       func()
	subscriber string
	after      filter.ID
	last       bool   // lines is the last page
	lines      []byte // not read yet
}

const exportPage = 250

func (b *exportBody) Read(p []byte) (int, error) {
	if len(b.lines) == 0 {
		if err := b.server.streaming.Err(); err != nil {
			return 0, err
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.lines)
	b.lines = b.lines[n:]
	return n, nil
}

// fill encodes the next page. It returns io.EOF if there is none.
func (b *exportBody) fill() error {
	if b.last {
		return io.EOF
	}
	c, cancel := b.server.storeContext()
	defer cancel()
	list, err := b.server.store.List(c, b.subscriber, b.after, exportPage)
	b.server.health.postgres.saw(err)
	if err != nil {
		return err
	}
	b.last, b.lines = len(list) < exportPage, b.lines[:0]
	for _, f := range list {
		line, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode filter %s: %w", f.ID, err)
		}
		b.lines, b.after = append(append(b.lines, line...), '\n'), f.ID
	}
	if len(b.lines) == 0 {
		return io.EOF
	}
	return nil
}

// Close is called when the response is over, however it ended.
func (b *exportBody) Close() error {
	b.free()
	return nil
}
