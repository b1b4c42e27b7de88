package admission

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"eventstream/gateway/framing"
	"eventstream/wire"
)

// Refusal is an HTTP answer instead of a connection.
type Refusal struct {
	Status     int
	Code       string // stable, for programs
	Detail     string // for people
	Header     string // of an extra response header, with Value
	Value      string
	RetryAfter int // seconds; 0 for none
}

// BadRequest refuses what a client sent.
func BadRequest(code, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Unavailable refuses for now.
func Unavailable(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: fmt.Sprintf(format, args...), RetryAfter: 1}
}

// Write answers with r.
func (r *Refusal) Write(w http.ResponseWriter) {
	h := w.Header()
	if r.Header != "" {
		h.Set(r.Header, r.Value)
	}
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Connection", "close")
	w.WriteHeader(r.Status)
	body := json.NewEncoder(w)
	body.SetEscapeHTML(false) // people read it, and browsers don't take it for a page
	body.Encode(map[string]any{
		"type":   "urn:eventstream:problem:" + strings.ReplaceAll(r.Code, "_", "-"),
		"title":  http.StatusText(r.Status),
		"status": r.Status,
		"detail": r.Detail,
	})
}

// EventStreamType is the type of a stream of server-sent events.
const EventStreamType = "text/event-stream"

// WriteStream answers a request for a stream with r. An EventSource comes back by itself
// only after a stream: so one that is refused for now gets a stream with an event error.
func (r *Refusal) WriteStream(w http.ResponseWriter, req *http.Request) {
	if r.RetryAfter == 0 || !headerHas(req.Header, "Accept", EventStreamType) {
		r.Write(w)
		return
	}
	setStream(w.Header())
	retry := framing.AppendRetry(nil, time.Duration(r.RetryAfter)*time.Second+rand.N(time.Second))
	w.Write(append(retry, framing.EventStream.Message(wire.AppendError(nil, r.Code, r.Detail), "")...))
}

// setStream sets the headers of a stream.
func setStream(h http.Header) {
	h.Set("Content-Type", EventStreamType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx is not to collect messages
	h.Set("Connection", "close")     // the stream ends with it, and needs no chunks
}

// headerHas reports whether a comma-separated header has the token, in any case.
func headerHas(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for v := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), token) {
				return true
			}
		}
	}
	return false
}
