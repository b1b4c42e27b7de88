package gateway

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"eventstream/gateway/framing"
	"eventstream/origin"
	"eventstream/wire"
)

// Server-sent events, for clients behind proxies that break WebSockets: the same
// messages in the stream format of the HTML standard, section 9.2.
//
//	data: {"type":"events","events":[…],"cursor":"…"}
//	event: events
//	id: <cursor>
//
// When an EventSource comes back it sends the last id that it saw. So each message with
// events has one, a cursor, also where there is none in it (if the topic has at most
// maxIDPartitions), and a hello that a gap follows has none. It comes back by itself after the end of a stream, but never after
// an answer other than 200.

// serveSSE answers with a stream of events, or says why not.
func (g *Gateway) serveSSE(w http.ResponseWriter, r *http.Request) {
	refused := g.stream(w, r)
	if refused == nil {
		return
	}
	g.metrics.refused.WithLabelValues(strconv.Itoa(refused.status)).Inc()
	if refused.retryAfter > 0 && headerHas(r.Header, "Accept", eventStreamType) {
		refused.postpone(w)
		return
	}
	refused.write(w)
}

const eventStreamType = "text/event-stream"

// stream does everything that can fail with a clear answer before it hijacks the
// connection.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request) *refusal {
	if refused := g.checkOrigin(r); refused != nil {
		return refused
	}
	if from := r.Header.Get("Origin"); from != "" {
		w.Header().Set("Access-Control-Allow-Origin", from)
		w.Header().Set("Vary", "Origin")
		if g.origins().Named(origin.Of(r)) { // its EventSource may be one withCredentials, which a proxy may ask for
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
	}
	if refused := checkStreamRequest(r); refused != nil {
		return refused
	}
	if r.Method == http.MethodOptions {
		preflight(w)
		return nil
	}
	q, refused := parseQuery(r, streamParams)
	if refused == nil {
		refused = resumeFrom(q, r)
	}
	if refused != nil {
		return refused
	}
	return g.enter(w, r, q, framing.EventStream, func(door) []byte { return streamHead(w.Header()) })
}

// checkStreamRequest checks a request for a stream, or a browser's question whether it
// may ask for one.
func checkStreamRequest(r *http.Request) *refusal {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodOptions:
		return &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", header: "Allow", value: "GET, OPTIONS", detail: r.Method + " is not allowed; use GET"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return badRequest("bad_request", "a body is not allowed")
	}
	return nil
}

// preflight tells a browser which headers a page may send from elsewhere: those of
// clients that are no EventSource.
func preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET")
	h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// streamHead is the answer to a good request, up to the first message.
func streamHead(h http.Header) []byte {
	setStream(h)
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	h.Write(&b)
	b.WriteString("\r\n")
	return framing.AppendRetry(b.Bytes(), time.Second+rand.N(time.Second))
}

func setStream(h http.Header) {
	h.Set("Content-Type", eventStreamType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx is not to collect messages
	h.Set("Connection", "close")     // the stream ends with it, and needs no chunks
}

// postpone refuses for now: an EventSource has to come back.
func (r *refusal) postpone(w http.ResponseWriter) {
	setStream(w.Header())
	retry := framing.AppendRetry(nil, time.Duration(r.retryAfter)*time.Second+rand.N(time.Second))
	w.Write(append(retry, framing.EventStream.Message(wire.AppendError(nil, r.code, r.detail), "")...))
}

// hint asks a stream's client to wait so long before it comes back. The message which
// follows has to be the last.
func (s *worker) hint(c *conn, wait time.Duration) {
	if c.framing == framing.EventStream && (c.state == replaying || c.state == live) {
		c.sock.Write(framing.AppendRetry(nil, wait))
	}
}

// hangUp ends a stream, after its last message, when that has gone: a client does
// not answer it.
func (s *worker) hangUp(c *conn) {
	if c.framing == framing.EventStream && !c.sock.Stall() {
		c.sock.Close()
	}
}
