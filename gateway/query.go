package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
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
