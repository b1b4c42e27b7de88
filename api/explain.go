package api

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/replay"
)

const (
	maxTestFilters = 100
	maxTestEvents  = 100
	maxPairs       = 1000
	// maxEffort bounds the CPU time of a request. The effort of a pair is the bytes of the
	// filter, times its alternatives, times the bytes of the event: in each alternative,
	// no value of the filter is compared more than once with each value of the event.
	maxEffort     = 500_000_000
	requestEffort = 100_000   // per unit of rate limit: about the cost of other requests
	largeEffort   = 1_000_000 // from here on dryRuns limits it: some milliseconds
)

// working charges the effort to the caller's rate limit and runs work. If the effort is
// large, it also needs a free place in dryRuns.
func (s *Server) working(ctx *fasthttp.RequestCtx, effort int, work func() error) error {
	if err := s.guard.limits.takeMore(ctx, effort/requestEffort); err != nil {
		return err
	}
	if effort < largeEffort {
		return work()
	}
	select {
	case s.dryRuns <- struct{}{}:
	default:
		return &problem{kind: busy, detail: fmt.Sprintf("%d dry runs of much work are under way, which is the most", s.cfg.MaxDryRuns)}
	}
	defer func() { <-s.dryRuns }()
	return work()
}

// dryRun is the body of POST /filters:test.
type dryRun struct {
	Filters []json.RawMessage `json:"filters"`
	Events  []json.RawMessage `json:"events"`
}

// tested is the result for one filter and one event, given by their indexes in the lists.
type tested struct {
	Filter int `json:"filter"`
	Event  int `json:"event"`
	filter.Explanation
}

// testFilters matches the given filters against the given events. Nothing is stored.
func (s *Server) testFilters(ctx *fasthttp.RequestCtx) error {
	body, err := s.readBody(ctx, plainJSON)
	if err != nil {
		return err
	}
	run, err := parseDryRun(body)
	if err != nil {
		return err
	}
	specs, events, effort, err := run.decode(s.cfg.Mapping)
	if err != nil {
		return err
	}
	return s.working(ctx, effort, func() error {
		out := struct {
			Results []tested `json:"results"`
		}{[]tested{}}
		for i, spec := range specs {
			for j, ev := range events {
				out.Results = append(out.Results, tested{i, j, spec.Explain(ev)})
			}
		}
		return writeJSON(ctx, fasthttp.StatusOK, out)
	})
}

// parseDryRun parses the body strictly: encoding/json would ignore
// duplicates and unknown fields.
func parseDryRun(body []byte) (dryRun, error) {
	fields, err := filter.Fields(body)
	if err != nil {
		return dryRun{}, err
	}
	var run dryRun
	bad := &problem{kind: badTest}
	seen := make(map[string]bool)
	for _, f := range fields {
		if seen[f.Name] {
			bad.complain("/"+f.Name, "given twice")
			continue
		}
		seen[f.Name] = true
		switch f.Name {
		case "filters":
			run.Filters = bad.list(f, maxTestFilters)
		case "events":
			run.Events = bad.list(f, maxTestEvents)
		default:
			bad.complain(fmt.Sprintf("/%.60s", f.Name), "unknown field; allowed are filters, events")
		}
	}
	for _, name := range []string{"filters", "events"} {
		if !seen[name] {
			bad.complain("/"+name, "required: a list of at least one")
		}
	}
	if len(bad.errors) > 0 {
		return dryRun{}, bad
	}
	return run, nil
}

func (p *problem) complain(field, detail string) {
	p.errors = append(p.errors, filter.Problem{Field: field, Detail: detail})
}

// list parses a list of 1 to most elements.
func (p *problem) list(f filter.Field, most int) []json.RawMessage {
	var list []json.RawMessage
	switch err := json.Unmarshal(f.Value, &list); {
	case err != nil || list == nil:
		p.complain("/"+f.Name, fmt.Sprintf("want a list of objects, got %.60s", f.Value))
	case len(list) == 0 || len(list) > most:
		p.complain("/"+f.Name, fmt.Sprintf("%d elements; want 1 to %d", len(list), most))
	}
	return list
}

// decode parses filters and events, and reports everything that is wrong with them.
func (run *dryRun) decode(m *event.Mapping) (specs []filter.Spec, events []map[string]any, effort int, err error) {
	bad := &problem{kind: badTest}
	specs = make([]filter.Spec, len(run.Filters))
	for i, raw := range run.Filters {
		var err error
		if specs[i], err = filter.ParseStored(raw, expr.Translate); err != nil {
			bad.tell(fmt.Sprintf("/filters/%d", i), err)
		}
	}
	events = make([]map[string]any, len(run.Events))
	for i, raw := range run.Events {
		var err error
		if events[i], err = decodeEvent(raw, m); err != nil {
			bad.complain(fmt.Sprintf("/events/%d", i), err.Error())
		}
		for k, f := range run.Filters {
			effort += len(f) * specs[k].Alternatives() * len(raw)
		}
	}
	switch pairs := len(specs) * len(events); {
	case len(bad.errors) > 0:
		return nil, nil, 0, bad
	case pairs > maxPairs:
		bad.complain("/filters", fmt.Sprintf("%d filters times %d events are %d pairs; at most %d are allowed", len(specs), len(events), pairs, maxPairs))
		return nil, nil, 0, bad
	case effort > maxEffort:
		bad.complain("/filters", fmt.Sprintf("filters and events are too large to be tried on each other: their bytes, times alternatives, come to %d, and at most %d are allowed; send fewer of them at a time", effort, maxEffort))
		return nil, nil, 0, bad
	}
	return specs, events, effort, nil
}

// tell adds the problems of the filter at a path.
func (p *problem) tell(at string, err error) {
	invalid, ok := errors.AsType[*filter.Invalid](err)
	if !ok {
		p.complain(at, err.Error())
		return
	}
	for _, q := range invalid.Problems {
		if len(p.errors) < maxLineProblems {
			p.complain(at+q.Field, q.Detail)
		}
	}
}

// decodeEvent rejects what the filter service would not accept as an event.
func decodeEvent(raw []byte, m *event.Mapping) (map[string]any, error) {
	var d event.Decoder
	if _, err := d.DecodeMapped(raw, nil, m, nil); err != nil {
		return nil, fmt.Errorf("no event: %w", err)
	}
	ev, err := filter.DecodeEvent(raw)
	return m.Overlay(ev, nil), err
}

// explained is the result for one stored filter.
type explained struct {
	ID       filter.ID `json:"id"`
	Revision int64     `json:"revision"`
	filter.Explanation
}

// explainEvent answers which of a subscriber's filters match an event, and
// why the others don't.
func (s *Server) explainEvent(ctx *fasthttp.RequestCtx) error {
	id, err := pathSubscriber(ctx)
	if err != nil {
		return err
	}
	q := explainQuery{listQuery: listQuery{limit: defaultLimit}, mapping: s.cfg.Mapping}
	if err := parseQuery(ctx.QueryArgs(), q.set, "event", "live", "limit", "cursor"); err != nil {
		return err
	}
	if q.event == nil {
		return &problem{kind: badQuery, errors: []filter.Problem{{Field: "?event", Detail: `required: the event as JSON, such as {"event_type":"purchase"}`}}}
	}
	c, cancel := s.storeContext()
	defer cancel()
	list, err := s.store.List(c, id, q.after, q.limit+1)
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	n, effort := q.page(list)
	if q.live {
		effort = max(effort, largeEffort)
	}
	return s.working(ctx, effort, func() (err error) {
		p := q.explain(id, list, n)
		if q.live {
			if p.Live, err = s.askLive(id, &q, p.NextCursor); err != nil {
				return err
			}
		}
		return writeJSON(ctx, fasthttp.StatusOK, p)
	})
}

// askLive asks the filter services what they have in memory for the IDs of this page.
// They may also have filters that the store lacks.
func (s *Server) askLive(id string, q *explainQuery, upTo *filter.ID) ([]replay.Live, error) {
	question := replay.Question{Subscriber: id, Event: q.raw, After: q.after}
	if upTo != nil {
		question.UpTo = *upTo
	}
	live, err := s.replays.Explain(s.streaming, question)
	s.live.Saw(err)
	if err != nil {
		return nil, &problem{kind: noLive, detail: "--filter-url of the API has to name the filter services, and its secret to be theirs; the log tells what each answered"}
	}
	return live, nil
}

// page returns how many filters of list go on one page, and their total effort. A page
// ends early if its effort gets too large.
func (q *explainQuery) page(list []filter.Filter) (n, effort int) {
	for n < min(len(list), q.limit) && effort <= maxEffort {
		effort += len(q.raw) * size(&list[n].Spec) * list[n].Alternatives()
		n++
	}
	return n, effort
}

// explainedPage is the answer to GET /subscribers/{id}/explain.
type explainedPage struct {
	SubscriberID string      `json:"subscriber_id"`
	Matches      bool        `json:"matches"` // at least one of Filters matches
	Filters      []explained `json:"filters"`
	NextCursor   *filter.ID  `json:"next_cursor"` // null on the last page

	Live []replay.Live `json:"live,omitempty"` // only if requested
}

// explain explains the first n of a list.
func (q *explainQuery) explain(subscriber string, list []filter.Filter, n int) explainedPage {
	p := explainedPage{SubscriberID: subscriber, Filters: []explained{}}
	for _, f := range list[:n] {
		x := f.Explain(q.event)
		p.Filters = append(p.Filters, explained{f.ID, f.Revision, x})
		p.Matches = p.Matches || x.Matches
	}
	if n < len(list) {
		p.NextCursor = &list[n-1].ID
	}
	return p
}

// size returns the length of s as JSON.
func size(s *filter.Spec) int {
	b, err := json.Marshal(s)
	if err != nil {
		return maxEffort
	}
	return len(b)
}

// explainQuery is what GET /subscribers/{id}/explain asks for.
type explainQuery struct {
	listQuery
	event map[string]any
	raw   []byte
	live  bool

	mapping *event.Mapping
}

func (q *explainQuery) set(key, value string) (err error) {
	switch key {
	case "live":
		if q.live = value == "true"; !q.live && value != "false" {
			return fmt.Errorf("%.40q: allowed are true and false", value)
		}
		return nil
	case "event":
		q.raw = []byte(value)
		q.event, err = decodeEvent(q.raw, q.mapping)
		return err
	}
	return q.listQuery.set(key, value)
}
