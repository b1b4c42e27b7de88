package admission

import (
	"fmt"
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
func parseQuery(r *http.Request, known []string) (url.Values, *Refusal) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, BadRequest("bad_query", "query: %.100v; want name=value pairs with & between them, percent-encoded", err)
	}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			return nil, BadRequest("unknown_parameter", "query parameter %.40q is not known; allowed are %s", name, strings.Join(known, ", "))
		case len(values) > 1 && name != "token": // several tokens have an answer of their own
			return nil, BadRequest("bad_query", "query parameter %s is there %d times; want it once", name, len(values))
		}
	}
	return q, nil
}

// Ask is what a client asks for, and who it is.
type Ask struct {
	Subscriber string
	Cursor     *event.Cursor // with the events that it has seen since; nil: from Since, or from now on
	Text       string        // Cursor as it came
	Issued     *event.Cursor // the same, without the events seen
	Seen       []int64       // events since that, as positions; nil if the client does not say
	Since      time.Time     // zero if there is a cursor, or nothing earlier is wanted
	Durable    bool          // without a cursor, go on from what was acknowledged
	Address    string        // connections are counted by it; empty if they are not
	Expires    int64         // when its token ends, Unix seconds; 0 if it has none
	Pass       auth.Pass     // of its token
	Framing    framing.Kind
	MaxMessage uint32 // bytes, as the client says; 0 if it does not
	Answer     []byte // to the handshake, once the connection is there
}

// parseAsk reads what a client asks for, whoever it is.
func (a *Admission) parseAsk(q url.Values) (Ask, *Refusal) {
	ask := Ask{Text: q.Get("cursor")}
	var refused *Refusal
	if ask.Since, refused = a.parseSince(q); refused != nil {
		return ask, refused
	}
	if ask.MaxMessage, refused = parseMaxMessage(q); refused != nil {
		return ask, refused
	}
	switch durable := q.Get("durable"); {
	case durable == "true" && !a.cfg.Durable:
		return ask, BadRequest("not_durable", "query parameter durable: this gateway has no database to keep acknowledgements in")
	case durable != "" && durable != "true" && durable != "false":
		return ask, BadRequest("bad_durable", "query parameter durable: %.40q; allowed are true and false", durable)
	default:
		ask.Durable = durable == "true"
	}
	seen := q.Get("seen")
	if ask.Text == "" && seen != "" {
		return ask, BadRequest("bad_seen", "query parameter seen: want it beside the cursor since which these events came")
	}
	if ask.Text == "" {
		return ask, nil
	}
	c, err := ParseCursor(ask.Text)
	if err != nil {
		return ask, BadRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	ask.Cursor, ask.Issued = c, c
	if seen != "" {
		if ask.Seen, ask.Cursor, err = Saw(c, seen); err != nil {
			return ask, BadSeen(err)
		}
	}
	return ask, nil
}

// parseSince reads from when on a client wants its events: a time, or how long ago.
func (a *Admission) parseSince(q url.Values) (time.Time, *Refusal) {
	text := q.Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	if q.Get("cursor") != "" {
		return time.Time{}, BadRequest("bad_since", "query parameters since and cursor: want one of them")
	}
	if !a.cfg.Replays {
		return time.Time{}, BadRequest("no_replay", "query parameter since: this gateway knows no filter service that could replay")
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
		return time.Time{}, BadRequest("bad_since", "query parameter since: %.60q; %s", text, want)
	case since.After(now):
		return time.Time{}, BadRequest("bad_since", "query parameter since: %.60q is in the future; %s", text, want)
	case since.Year() < 1970:
		return time.Time{}, BadRequest("bad_since", "query parameter since: %.60q is before 1970; %s", text, want)
	}
	return since, nil
}

// A client may say how large its messages may be, within these bounds.
const (
	LeastMaxMessage = 1 << 10
	MostMaxMessage  = 64 << 20
)

// parseMaxMessage reads how large a client's messages may be, 0 if it does not say.
func parseMaxMessage(q url.Values) (uint32, *Refusal) {
	text := q.Get("max_message")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n < LeastMaxMessage || n > MostMaxMessage {
		return 0, BadRequest("bad_max_message", "query parameter max_message: %.20q; want a number of bytes from %d to %d", text, LeastMaxMessage, MostMaxMessage)
	}
	return uint32(n), nil
}

// Saw returns the cursor of a client that has got some events since: the newest of each
// partition, as positions, and the cursor as if it had these.
func Saw(c *event.Cursor, text string) (seen []int64, since *event.Cursor, err error) {
	if seen, err = event.ParseSeen(text); err != nil {
		return nil, nil, err
	}
	since, err = c.Since(seen)
	return seen, since, err
}

// BadSeen refuses what a client says that it has seen.
func BadSeen(err error) *Refusal {
	return BadRequest("bad_seen", "query parameter seen: %v; or leave it out, and get all since the cursor", err)
}

// ParseCursor reads a cursor that a client sends: it may hold anything that can be written
// down, and what can't be true is refused. The error is for the client.
func ParseCursor(text string) (*event.Cursor, error) {
	c, err := event.ParseCursor(text)
	if err != nil {
		return nil, err
	}
	if ahead := time.Until(c.Issued); ahead > event.MaxClockAhead {
		return nil, fmt.Errorf("it was issued at %s, which is in the future; clocks may differ by %v", c.Issued.UTC().Format(time.RFC3339), event.MaxClockAhead)
	}
	return c, nil
}
