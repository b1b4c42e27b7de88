package admission

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"eventstream/gateway/framing"
	"eventstream/origin"
)

// Stream checks a request for a stream of server-sent events, and returns what the client
// asks for. It sets the headers that an answer needs, also one that refuses. A request
// OPTIONS is a browser's question whether a page may ask for a stream: its answer is the
// headers alone, and it asks for nothing.
func (a *Admission) Stream(h http.Header, r *http.Request) (Ask, *Refusal) {
	if refused := a.checkOrigin(r); refused != nil {
		return Ask{}, refused
	}
	if from := r.Header.Get("Origin"); from != "" {
		h.Set("Access-Control-Allow-Origin", from)
		h.Set("Vary", "Origin")
		if a.rules().Named(origin.Of(r)) { // its EventSource may be one withCredentials, which a proxy may ask for
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}
	if refused := checkStreamRequest(r); refused != nil {
		return Ask{}, refused
	}
	if r.Method == http.MethodOptions {
		preflight(h)
		return Ask{}, nil
	}
	q, refused := parseQuery(r, streamParams)
	if refused == nil {
		refused = resumeFrom(q, r)
	}
	if refused != nil {
		return Ask{}, refused
	}
	ask, _, refused := a.check(r, q)
	if refused != nil {
		return Ask{}, refused
	}
	ask.Framing, ask.Answer = framing.EventStream, streamHead(h.Clone())
	return ask, nil
}

// resumeFrom takes a Last-Event-ID for the cursor: where a client is by now, while cursor
// and since in its URL say where it began.
func resumeFrom(q url.Values, r *http.Request) *Refusal {
	where, last := "header Last-Event-ID", r.Header.Get("Last-Event-ID")
	for _, name := range lastEventIDs {
		if last == "" {
			where, last = "query parameter "+name, q.Get(name)
		}
	}
	if last == "" {
		return nil
	}
	if _, err := ParseCursor(last); err != nil {
		return BadRequest("bad_cursor", "%s: %v; pass an id that the gateway sent, unchanged, or none", where, err)
	}
	q.Set("cursor", last)
	q.Del("seen") // is of the cursor before
	q.Del("since")
	return nil
}

// checkStreamRequest checks a request for a stream, or a browser's question whether it
// may ask for one.
func checkStreamRequest(r *http.Request) *Refusal {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodOptions:
		return &Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Header: "Allow", Value: "GET, OPTIONS", Detail: r.Method + " is not allowed; use GET"}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return BadRequest("bad_request", "a body is not allowed")
	}
	return nil
}

// preflight tells a browser which headers a page may send from elsewhere: those of
// clients that are no EventSource.
func preflight(h http.Header) {
	h.Set("Access-Control-Allow-Methods", "GET")
	h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control")
	h.Set("Access-Control-Max-Age", "600")
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
