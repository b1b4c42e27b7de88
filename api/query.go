package api

import (
	"fmt"
	"strconv"

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

// parseListQuery refuses what it doesn't know: a misspelt subscriber_id would
// list everybody's filters.
func parseListQuery(args *fasthttp.Args) (listQuery, error) {
	q := listQuery{limit: defaultLimit}
	bad := &problem{kind: badQuery}
	seen := make(map[string]bool)
	for k, v := range args.All() {
		key, value := string(k), string(v)
		if err := q.set(key, value, seen[key]); err != nil {
			bad.errors = append(bad.errors, filter.Problem{Field: fmt.Sprintf("?%.60s", key), Detail: err.Error()})
		}
		seen[key] = true
	}
	if len(bad.errors) > 0 {
		return listQuery{}, bad
	}
	return q, nil
}

func (q *listQuery) set(key, value string, again bool) error {
	switch key {
	case "subscriber_id", "limit", "cursor":
	default:
		return fmt.Errorf("unknown; allowed are subscriber_id, limit, cursor")
	}
	if again {
		return fmt.Errorf("given twice")
	}
	switch key {
	case "subscriber_id":
		q.subscriber = value
		return filter.CheckSubscriberID(value)
	case "limit":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n < 1 || n > maxLimit {
			return fmt.Errorf("%.60q: want a number from 1 to %d", value, maxLimit)
		}
		q.limit = int(n)
	case "cursor":
		u, err := uuid.Parse(value)
		if err != nil {
			return fmt.Errorf("%.60q: want the next_cursor of the page before", value)
		}
		q.after = filter.ID(u.String())
	}
	return nil
}
