package api

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"eventstream/filter"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// listQuery is what GET /filters asks for.
type listQuery struct {
	subscriber string
	after      filter.ID
	limit      int
}

func parseListQuery(args *fasthttp.Args) (listQuery, error) {
	q := listQuery{limit: defaultLimit}
	return q, parseQuery(args, q.set, "subscriber_id", "limit", "cursor")
}

func (q *listQuery) set(key, value string) (err error) {
	switch key {
	case "subscriber_id":
		q.subscriber = value
		return filter.CheckSubscriberID(value)
	case "limit":
		q.limit, err = parseLimit(value)
	case "cursor":
		u, err := uuid.Parse(value)
		if err != nil {
			return fmt.Errorf("%.60q: want the next_cursor of the page before", value)
		}
		q.after = filter.ID(u.String())
	}
	return err
}

// subscribersQuery is what GET /subscribers asks for.
type subscribersQuery struct {
	durable bool
	after   string
	limit   int
}

// parseSubscribersQuery requires durable=true: nothing is stored about other
// subscribers, so a list of all of them is not possible.
func parseSubscribersQuery(args *fasthttp.Args) (subscribersQuery, error) {
	q := subscribersQuery{limit: defaultLimit}
	if err := parseQuery(args, q.set, "durable", "limit", "cursor"); err != nil {
		return q, err
	}
	if !q.durable {
		return q, &problem{kind: badQuery, errors: []filter.Problem{{Field: "?durable", Detail: "required: " + onlyDurable}}}
	}
	return q, nil
}

const onlyDurable = "only durable subscribers can be listed, with durable=true"

func (q *subscribersQuery) set(key, value string) (err error) {
	switch key {
	case "durable":
		if value != "true" {
			return fmt.Errorf("%.60q: %s", value, onlyDurable)
		}
		q.durable = true
	case "limit":
		q.limit, err = parseLimit(value)
	case "cursor":
		q.after = value
		if err := filter.CheckSubscriberID(value); err != nil {
			return fmt.Errorf("%.60q: want the next_cursor of the page before", value)
		}
	}
	return err
}

func parseLimit(value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n < 1 || n > maxLimit {
		return 0, fmt.Errorf("%.60q: want a number from 1 to %d", value, maxLimit)
	}
	return int(n), nil
}

// parseQuery passes each parameter to set. It rejects unknown ones: a misspelt
// subscriber_id would list everybody's filters.
func parseQuery(args *fasthttp.Args, set func(key, value string) error, allowed ...string) error {
	bad := &problem{kind: badQuery}
	seen := make(map[string]bool)
	for k, v := range args.All() {
		key, err := string(k), error(nil)
		switch {
		case len(allowed) == 0:
			err = errors.New("unknown; none are allowed here")
		case !slices.Contains(allowed, key):
			err = fmt.Errorf("unknown; allowed are %s", strings.Join(allowed, ", "))
		case seen[key]:
			err = errors.New("given twice")
		default:
			err = set(key, string(v))
		}
		if err != nil {
			bad.errors = append(bad.errors, filter.Problem{Field: fmt.Sprintf("?%.60s", key), Detail: err.Error()})
		}
		seen[key] = true
	}
	if len(bad.errors) > 0 {
		return bad
	}
	return nil
}
