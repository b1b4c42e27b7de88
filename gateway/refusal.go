package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"eventstream/event"
	"eventstream/replay"
)

// refusal is an HTTP answer instead of an upgrade.
type refusal struct {
	status     int
	code       string // stable, for programs
	detail     string // for people
	header     string // of an extra response header, with value
	value      string
	retryAfter int // seconds; 0 for none
}

func badRequest(code, format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: code, detail: fmt.Sprintf(format, args...)}
}

func unavailable(format string, args ...any) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "unavailable", detail: fmt.Sprintf(format, args...), retryAfter: 1}
}

func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	if r.header != "" {
		h.Set(r.header, r.value)
	}
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Connection", "close")
	w.WriteHeader(r.status)
	body := json.NewEncoder(w)
	body.SetEscapeHTML(false) // people read it, and browsers don't take it for a page
	body.Encode(map[string]any{
		"type":   "urn:eventstream:problem:" + strings.ReplaceAll(r.code, "_", "-"),
		"title":  http.StatusText(r.status),
		"status": r.status,
		"detail": r.detail,
	})
}

// refusalOf says why a client can't join now.
func refusalOf(err error) *refusal {
	switch {
	case errors.Is(err, replay.ErrBeyondEnd):
		return badRequest("bad_cursor", "the cursor is of events that do not exist yet; pass one that the gateway sent, unchanged")
	case errors.Is(err, event.ErrSeen):
		return badSeen(err)
	case errors.Is(err, errBadAck):
		return badRequest("bad_ack", "what was acknowledged is of events that do not exist yet; the operator can have it forgotten, by DELETE /subscribers/{id}/ack of the API")
	case errors.Is(err, replay.ErrUnavailable):
		refused := unavailable("what was missed can't be replayed from Kafka at the moment; try again")
		if un, ok := errors.AsType[*replay.Unavailable](err); ok {
			refused.retryAfter = max(1, int(un.RetryAfter.Seconds()))
		}
		return refused
	case errors.Is(err, errPartitions):
		return unavailable("the cursor is of more partitions than are known here; try again, or pass one that the gateway sent, unchanged")
	case errors.Is(err, errAcks):
		return unavailable("what was acknowledged can't be read or saved now; try again")
	}
	return unavailable("the store does not take the connection now; try again")
}
