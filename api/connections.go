package api

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
)

// connectionJSON is an open connection, as its gateway knows it.
type connectionJSON struct {
	ID           string     `json:"id"`
	SubscriberID string     `json:"subscriber_id"`
	Gateway      string     `json:"gateway"`
	ConnectedAt  time.Time  `json:"connected_at"`
	HeardAt      time.Time  `json:"heard_at"`                // when the client last sent something
	TokenExpires *time.Time `json:"token_expires,omitempty"` // absent without a token
}

// connectionsPage is the answer to GET /connections. SilentGateways did not answer in
// time; their connections are missing.
type connectionsPage struct {
	Connections    []connectionJSON `json:"connections"`
	Total          int              `json:"total"` // may exceed len(Connections)
	SilentGateways []string         `json:"silent_gateways"`
}

// disconnected is the answer to DELETE /connections.
type disconnected struct {
	Disconnected   int      `json:"disconnected"`
	SilentGateways []string `json:"silent_gateways"`
}

func (s *Server) listConnections(ctx *fasthttp.RequestCtx) error {
	id, err := parseWhose(ctx.QueryArgs())
	if err != nil {
		return err
	}
	answers, silent, err := s.ask(lane.Order{Task: lane.TaskList, Subscriber: id})
	if err != nil {
		return err
	}
	p := connectionsPage{Connections: []connectionJSON{}, SilentGateways: silent}
	for _, a := range answers {
		p.Total += a.Total
		for _, c := range a.Connections {
			p.Connections = append(p.Connections, tellConnection(a.Gateway, c))
		}
	}
	slices.SortFunc(p.Connections, func(a, b connectionJSON) int {
		return cmp.Or(a.ConnectedAt.Compare(b.ConnectedAt), strings.Compare(a.ID, b.ID))
	})
	return writeJSON(ctx, fasthttp.StatusOK, p)
}

func tellConnection(g event.Gateway, c lane.Connection) connectionJSON {
	out := connectionJSON{
		ID: event.Address{Gateway: g, Seat: c.Seat}.String(), SubscriberID: c.Subscriber, Gateway: g.String(),
		ConnectedAt: time.Unix(c.Opened, 0).UTC(), HeardAt: time.Unix(c.Heard, 0).UTC(),
	}
	if c.Expires != 0 {
		ends := time.Unix(c.Expires, 0).UTC()
		out.TokenExpires = &ends
	}
	return out
}

// closeConnections ends all connections of a subscriber.
func (s *Server) closeConnections(ctx *fasthttp.RequestCtx) error {
	id, err := parseWhose(ctx.QueryArgs())
	if err != nil {
		return err
	}
	answers, silent, err := s.ask(lane.Order{Task: lane.TaskClose, Subscriber: id})
	if err != nil {
		return err
	}
	d := disconnected{SilentGateways: silent}
	for _, a := range answers {
		d.Disconnected += a.Total
	}
	status := fasthttp.StatusOK
	if len(silent) > 0 {
		status = fasthttp.StatusAccepted
	}
	return writeJSON(ctx, status, d)
}

// closeConnection ends one connection.
func (s *Server) closeConnection(ctx *fasthttp.RequestCtx) error {
	if err := parseQuery(ctx.QueryArgs(), nil); err != nil {
		return err
	}
	raw, _ := ctx.UserValue("id").(string)
	text, _ := url.PathUnescape(raw)
	address, err := event.ParseAddress(text)
	if err != nil {
		return &problem{kind: noConnection, detail: fmt.Sprintf("%.60q can't be a connection's id; GET /connections lists them", raw)}
	}
	answers, silent, err := s.ask(lane.Order{Task: lane.TaskClose, Address: &address})
	switch {
	case err != nil:
		return err
	case len(silent) > 0:
		return &problem{kind: noGateways, detail: "its gateway did not answer; it may have ended the connection or not"}
	case len(answers) == 0 || answers[0].Total == 0:
		return &problem{kind: noConnection, detail: "it has ended, or never was"}
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// askWait is how long to wait for the gateways' answers.
const askWait = time.Second

// ask sends the gateways an order, and returns their answers and the gateways without one.
func (s *Server) ask(o lane.Order) (answers []lane.Answer, silent []string, err error) {
	silent = []string{}
	err = s.tell(func(c context.Context) error {
		var none []event.Gateway
		answers, none, err = s.lanes.Ask(c, o, askWait)
		for _, g := range none {
			silent = append(silent, g.String())
		}
		return err
	})
	if err != nil {
		return nil, nil, &problem{kind: noGateways, detail: "Redis, through which they are asked, does not answer; try again in " + retryAfter + " seconds"}
	}
	return answers, silent, nil
}

// parseWhose returns the subscriber_id of the query.
func parseWhose(args *fasthttp.Args) (id string, err error) {
	err = parseQuery(args, func(_, value string) error {
		id = value
		return filter.CheckSubscriberID(value)
	}, "subscriber_id")
	if err == nil && id == "" {
		err = &problem{kind: badQuery, errors: []filter.Problem{{Field: "?subscriber_id", Detail: "required"}}}
	}
	return id, err
}
