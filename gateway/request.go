package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/framing"
)

// The query parameters of a handshake. One that is not known may be a misspelt wish, such
// as to get what was missed: to leave it out would lose events without a word.
var (
	params       = []string{"subscriber_id", "token", "cursor", "seen", "since", "durable", "max_message"}
	streamParams = append(slices.Clone(params), lastEventIDs...)
)

// lastEventIDs are the names by which clients that can send no header Last-Event-ID pass
// it: event-source-polyfill the first.
var lastEventIDs = []string{"lastEventId", "lastEventID", "Last-Event-ID"}

// parseQuery reads the query of a request that may have the given parameters.
func parseQuery(r *http.Request, known []string) (url.Values, *refusal) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("bad_query", "query: %.100v; want name=value pairs with & between them, percent-encoded", err)
	}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			return nil, badRequest("unknown_parameter", "query parameter %.40q is not known; allowed are %s", name, strings.Join(known, ", "))
		case len(values) > 1 && name != "token": // several tokens have an answer of their own
			return nil, badRequest("bad_query", "query parameter %s is there %d times; want it once", name, len(values))
		}
	}
	return q, nil
}

// resumeFrom takes a Last-Event-ID for the cursor: where a client is by now, while cursor
// and since in its URL say where it began.
func resumeFrom(q url.Values, r *http.Request) *refusal {
	where, last := "header Last-Event-ID", r.Header.Get("Last-Event-ID")
	for _, name := range lastEventIDs {
		if last == "" {
			where, last = "query parameter "+name, q.Get(name)
		}
	}
	if last == "" {
		return nil
	}
	if _, err := parseCursor(last); err != nil {
		return badRequest("bad_cursor", "%s: %v; pass an id that the gateway sent, unchanged, or none", where, err)
	}
	q.Set("cursor", last)
	q.Del("seen") // is of the cursor before
	q.Del("since")
	return nil
}

// ask is what a client wants.
type ask struct {
	subscriber string
	cursor     *event.Cursor // with what it has seen since; nil: from since, or from now on
	text       string        // cursor as it came
	issued     *event.Cursor // the same, without
	seen       []int64       // since that, as positions; nil if it does not say
	since      time.Time     // zero if it has a cursor, or wants nothing earlier
	durable    bool          // without a cursor, go on from what was acknowledged
	address    string        // it is counted by; empty if addresses are not counted
	expires    int64         // when its token ends, Unix seconds; 0 if it has none
	pass       auth.Pass     // of its token
	framing    framing.Kind
	maxMessage uint32 // bytes, as it says; 0 if it does not
}

// parseAsk reads what a client wants, whoever it is.
func (g *Gateway) parseAsk(q url.Values) (ask, *refusal) {
	a := ask{text: q.Get("cursor")}
	var refused *refusal
	if a.since, refused = g.parseSince(q); refused != nil {
		return a, refused
	}
	if a.maxMessage, refused = parseMaxMessage(q); refused != nil {
		return a, refused
	}
	switch durable := q.Get("durable"); {
	case durable == "true" && g.acks.store == nil:
		return a, badRequest("not_durable", "query parameter durable: this gateway has no database to keep acknowledgements in")
	case durable != "" && durable != "true" && durable != "false":
		return a, badRequest("bad_durable", "query parameter durable: %.40q; allowed are true and false", durable)
	default:
		a.durable = durable == "true"
	}
	seen := q.Get("seen")
	if a.text == "" && seen != "" {
		return a, badRequest("bad_seen", "query parameter seen: want it beside the cursor since which these events came")
	}
	if a.text == "" {
		return a, nil
	}
	c, err := parseCursor(a.text)
	if err != nil {
		return a, badRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	a.cursor, a.issued = c, c
	if seen != "" {
		if err := a.saw(seen); err != nil {
			return a, badSeen(err)
		}
	}
	return a, nil
}

// parseSince reads from when on a client wants its events: a time, or how long ago.
func (g *Gateway) parseSince(q url.Values) (time.Time, *refusal) {
	text := q.Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	if q.Get("cursor") != "" {
		return time.Time{}, badRequest("bad_since", "query parameters since and cursor: want one of them")
	}
	if g.kafka == nil {
		return time.Time{}, badRequest("no_replay", "query parameter since: this gateway knows no filter service that could replay")
	}
	const want = "want a time such as 2026-01-02T03:04:05Z, or how long ago, such as 1h30m"
	now := time.Now()
	ago, err := time.ParseDuration(text)
	since := now.Add(-ago)
	if err != nil {
		since, err = time.Parse(time.RFC3339, text)
	}
	switch {
	case err != nil:
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q; %s", text, want)
	case since.After(now):
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q is in the future; %s", text, want)
	case since.Year() < 1970:
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q is before 1970; %s", text, want)
	}
	return since, nil
}

// parseMaxMessage reads how large a client's messages may be, 0 if it does not say.
func parseMaxMessage(q url.Values) (uint32, *refusal) {
	text := q.Get("max_message")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n < leastMaxMessage || n > mostMaxMessage {
		return 0, badRequest("bad_max_message", "query parameter max_message: %.20q; want a number of bytes from %d to %d", text, leastMaxMessage, mostMaxMessage)
	}
	return uint32(n), nil
}
