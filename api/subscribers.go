package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/event"
	"eventstream/filter"
)

// ackJSON is a durable subscriber's acknowledgement.
type ackJSON struct {
	SubscriberID string    `json:"subscriber_id"`
	Cursor       string    `json:"cursor"`
	AckedAt      time.Time `json:"acked_at"`
	Lag          *lag      `json:"lag"`
	LagUnknown   string    `json:"lag_unknown,omitempty"` // if lag is null
}

func (s *Server) readAck(ctx *fasthttp.RequestCtx) error {
	id, err := askedSubscriber(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	a, err := s.store.Acked(c, id)
	s.health.postgres.saw(err)
	if err != nil {
		return ackProblem(err)
	}
	c, cancel = context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	return writeJSON(ctx, fasthttp.StatusOK, tellAck(a, s.matched(c), true))
}

func tellAck(a event.Ack, m *matched, full bool) ackJSON {
	out := ackJSON{SubscriberID: a.Subscriber, Cursor: a.Cursor.String(), AckedAt: a.At.UTC()}
	var err error
	if out.Lag, err = m.lagOf(a); err != nil {
		out.LagUnknown = err.Error()
	} else if !full {
		out.Lag.Partitions = nil
	}
	return out
}

func (s *Server) forgetAck(ctx *fasthttp.RequestCtx) error {
	id, err := askedSubscriber(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	err = s.store.ForgetAck(c, id)
	s.health.writes.wrote(err)
	if err != nil {
		return ackProblem(err)
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// ackProblem handles filter.ErrNotFound, which problemOf would report as a missing filter.
func ackProblem(err error) error {
	if errors.Is(err, filter.ErrNotFound) {
		return &problem{kind: noAck, detail: "it never connected with durable=true, or what it acknowledged was deleted"}
	}
	return err
}

// subscribersPage is the answer to GET /subscribers.
type subscribersPage struct {
	Subscribers []ackJSON `json:"subscribers"`
	NextCursor  *string   `json:"next_cursor"` // null on the last page
}

func (s *Server) listSubscribers(ctx *fasthttp.RequestCtx) error {
	q, err := parseSubscribersQuery(ctx.QueryArgs())
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	list, err := s.store.Acks(c, q.after, q.limit+1) // one more, to know whether there is a next page
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	p := subscribersPage{Subscribers: []ackJSON{}}
	if len(list) > q.limit {
		list = list[:q.limit]
		p.NextCursor = &list[q.limit-1].Subscriber
	}
	c, cancel = context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	m := s.matched(c)
	for _, a := range list {
		p.Subscribers = append(p.Subscribers, tellAck(a, m, false))
	}
	return writeJSON(ctx, fasthttp.StatusOK, p)
}

// askedSubscriber returns the subscriber in the path, and rejects query parameters.
func askedSubscriber(ctx *fasthttp.RequestCtx) (string, error) {
	if err := parseQuery(ctx.QueryArgs(), nil); err != nil {
		return "", err
	}
	return pathSubscriber(ctx)
}

// pathSubscriber returns the subscriber's id in the path, which the router
// leaves percent-encoded.
func pathSubscriber(ctx *fasthttp.RequestCtx) (string, error) {
	raw, _ := ctx.UserValue("id").(string)
	id, err := url.PathUnescape(raw)
	if err != nil {
		return "", &problem{kind: badSubscriber, detail: fmt.Sprintf("%.60q in the path: %v", raw, err)}
	}
	if err := filter.CheckSubscriberID(id); err != nil {
		return "", &problem{kind: badSubscriber, detail: fmt.Sprintf("%.60q in the path: %v", id, err)}
	}
	return id, nil
}
