package api

import (
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
)

const (
	defaultForget = 10_000 // subscribers in one request
	maxForget     = 100_000
)

// forgetQuery is what DELETE /subscribers asks for.
type forgetQuery struct {
	before time.Time
	limit  int
	dry    bool
}

func parseForgetQuery(args *fasthttp.Args, now time.Time) (forgetQuery, error) {
	q := forgetQuery{limit: defaultForget}
	err := parseQuery(args, func(key, value string) error { return q.set(key, value, now) }, "acked_before", "limit", "dry_run")
	if err == nil && q.before.IsZero() {
		err = &problem{kind: badQuery, errors: []filter.Problem{{Field: "?acked_before", Detail: "required: a duration such as 720h (ago), or a time such as 2026-01-02T03:04:05Z"}}}
	}
	return q, err
}

func (q *forgetQuery) set(key, value string, now time.Time) (err error) {
	switch key {
	case "acked_before":
		if q.before, err = parseTime(value, now); err == nil && q.before.After(now) {
			err = fmt.Errorf("%.60q: is in the future", value)
		}
	case "limit":
		n, bad := strconv.ParseUint(value, 10, 31)
		if q.limit = int(n); bad != nil || n < 1 || n > maxForget {
			err = fmt.Errorf("%.60q: want a number from 1 to %d", value, maxForget)
		}
	case "dry_run":
		if q.dry = value == "true"; !q.dry && value != "false" {
			err = fmt.Errorf("%.60q: want true or false", value)
		}
	}
	return err
}

// forgotten is the answer to DELETE /subscribers.
type forgotten struct {
	AckedBefore time.Time `json:"acked_before"`
	Subscribers int64     `json:"subscribers"` // forgotten, or in a dry run, that would be
	More        bool      `json:"more"`        // there may be more
	DryRun      bool      `json:"dry_run"`
}

// forgetSubscribers deletes the acknowledgements of durable subscribers that have been
// silent since a time, up to a limit per request. A dry run only counts them.
func (s *Server) forgetSubscribers(ctx *fasthttp.RequestCtx) error {
	q, err := parseForgetQuery(ctx.QueryArgs(), time.Now())
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	out := forgotten{AckedBefore: q.before.UTC(), DryRun: q.dry}
	if q.dry {
		out.Subscribers, err = s.store.CountAcks(c, q.before)
		s.health.postgres.saw(err)
	} else {
		out.Subscribers, err = s.store.ForgetAcks(c, q.before, q.limit)
		out.More = out.Subscribers == int64(q.limit)
		s.health.writes.wrote(err)
	}
	if err != nil {
		return err
	}
	return writeJSON(ctx, fasthttp.StatusOK, out)
}
