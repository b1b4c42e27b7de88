package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/filter/expr"
)

func (s *Server) createFilter(ctx *fasthttp.RequestCtx) error {
	spec, err := s.spec(ctx)
	if err != nil {
		return err
	}
	key, err := idempotencyKey(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	if key != "" {
		return s.createOnce(c, ctx, spec, key)
	}
	f, err := s.store.Create(c, spec)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	return s.tellCreated(ctx, f)
}

func (s *Server) tellCreated(ctx *fasthttp.RequestCtx, f filter.Filter) error {
	ctx.Response.Header.Set("Location", "/filters/"+string(f.ID))
	return s.tellChange(ctx, fasthttp.StatusCreated, filter.Change{Filter: f})
}

// createOnce answers a repeated request as it answered the first one.
func (s *Server) createOnce(c context.Context, ctx *fasthttp.RequestCtx, spec filter.Spec, key string) error {
	f, again, err := s.store.CreateOnce(c, spec, key)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	if !again {
		return s.tellCreated(ctx, f)
	}
	ctx.Response.Header.Set("Idempotent-Replayed", "true")
	// Whether the filter service was told the first time is unknown. It is sent the
	// filter as it is now. It forgets deleted filters after a while, so the filter as
	// it was then might bring a deleted one back.
	now, err := s.store.Get(c, f.ID)
	s.health.postgres.saw(err)
	switch {
	case errors.Is(err, filter.ErrNotFound): // deleted: no one has to be told
	case err != nil:
		return err
	default:
		err = s.publish(filter.Change{Filter: now})
	}
	ctx.Response.Header.Set("Location", "/filters/"+string(f.ID))
	setETag(ctx, f)
	if err != nil && !errors.Is(err, filter.ErrNotFound) {
		return s.tellUnapplied(ctx, filter.Change{Filter: f})
	}
	return writeJSON(ctx, fasthttp.StatusCreated, f)
}

func (s *Server) readFilter(ctx *fasthttp.RequestCtx) error {
	id, err := pathID(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	f, err := s.store.Get(c, id)
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	setETag(ctx, f)
	same, err := isCurrent(ctx, f.Revision)
	if err != nil {
		return err
	}
	if same {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	return writeJSON(ctx, fasthttp.StatusOK, f)
}

// page is the answer to GET /filters.
type page struct {
	Filters    []filter.Filter `json:"filters"`
	NextCursor *filter.ID      `json:"next_cursor"` // null on the last page
}

func (s *Server) listFilters(ctx *fasthttp.RequestCtx) error {
	q, err := parseListQuery(ctx.QueryArgs())
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	list, err := s.store.List(c, q.subscriber, q.after, q.limit+1) // one more, to know whether there is a next page
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	p := page{Filters: []filter.Filter{}}
	if len(list) > q.limit {
		list = list[:q.limit]
		p.NextCursor = &list[q.limit-1].ID
	}
	p.Filters = append(p.Filters, list...)
	return writeJSON(ctx, fasthttp.StatusOK, p)
}

func (s *Server) replaceFilter(ctx *fasthttp.RequestCtx) error {
	id, err := pathID(ctx)
	if err != nil {
		return err
	}
	spec, err := s.spec(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	revision, err := s.ifMatch(c, ctx, id)
	if err != nil {
		return err
	}
	f, err := s.store.Update(c, id, spec, revision)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	return s.tellChange(ctx, fasthttp.StatusOK, filter.Change{Filter: f})
}

// patchFilter merges the body into the filter. If the filter changes meanwhile, it
// merges again into the new version, unless the client named a revision.
func (s *Server) patchFilter(ctx *fasthttp.RequestCtx) error {
	id, err := pathID(ctx)
	if err != nil {
		return err
	}
	patch, err := s.readBody(ctx, mergePatch)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	revision, err := s.ifMatch(c, ctx, id)
	if err != nil {
		return err
	}
	f, err := s.patch(c, id, patch, revision)
	for try := 1; errors.Is(err, filter.ErrConflict) && revision == 0; try++ {
		if try == patchTries {
			return &problem{kind: contended, detail: fmt.Sprintf("it was changed by others %d times before this patch could be stored; nothing of it was", try)}
		}
		time.Sleep(rand.N(time.Duration(try) * patchPause)) // or concurrent patches would collide again
		f, err = s.patch(c, id, patch, revision)
	}
	if err != nil {
		return err
	}
	return s.tellChange(ctx, fasthttp.StatusOK, filter.Change{Filter: f})
}

const (
	patchTries = 10
	patchPause = 10 * time.Millisecond // maximum before the second try; grows with each try
)

func (s *Server) patch(c context.Context, id filter.ID, patch []byte, revision int64) (filter.Filter, error) {
	old, err := s.store.Get(c, id)
	s.health.postgres.saw(err)
	if err != nil {
		return filter.Filter{}, err
	}
	spec, err := old.Patch(patch, expr.Translate)
	if err != nil { // first: preconditions are ignored if the request would fail without them (RFC 9110, 13.2.1)
		return filter.Filter{}, err
	}
	if revision != 0 && revision != old.Revision {
		return filter.Filter{}, filter.ErrConflict
	}
	f, err := s.store.Update(c, id, spec, old.Revision)
	s.health.writes.wrote(err)
	return f, err
}

func (s *Server) deleteFilter(ctx *fasthttp.RequestCtx) error {
	id, err := pathID(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	revision, err := s.ifMatch(c, ctx, id)
	if err != nil {
		return err
	}
	f, err := s.store.Delete(c, id, revision)
	s.health.writes.wrote(err)
	if err != nil {
		return err
	}
	return s.tellChange(ctx, fasthttp.StatusNoContent, filter.Change{Filter: f, Deleted: true})
}

// unapplied is the answer to a stored write of which the filter service could not be told.
type unapplied struct {
	filter.Filter
	Deleted bool   `json:"deleted,omitempty"`
	Applied bool   `json:"applied"`
	Detail  string `json:"detail"`
}

// tellChange tells the filter service of a stored change, then answers the client with
// the given status.
func (s *Server) tellChange(ctx *fasthttp.RequestCtx, status int, change filter.Change) error {
	if !change.Deleted {
		setETag(ctx, change.Filter)
	}
	if s.publish(change) != nil {
		return s.tellUnapplied(ctx, change)
	}
	if status == fasthttp.StatusNoContent {
		ctx.SetStatusCode(status)
		return nil
	}
	return writeJSON(ctx, status, change.Filter)
}

const notTold = "stored, but the filter service could not be told; it will apply this by itself, as soon as Redis is back"

func (s *Server) tellUnapplied(ctx *fasthttp.RequestCtx, change filter.Change) error {
	return writeJSON(ctx, fasthttp.StatusAccepted, unapplied{Filter: change.Filter, Deleted: change.Deleted, Detail: notTold})
}

// publish tells the filter service of a stored change.
func (s *Server) publish(change filter.Change) error {
	return s.tell(func(c context.Context) error {
		_, err := s.publisher.PublishFilter(c, change)
		return err
	})
}

func (s *Server) tell(publish func(context.Context) error) error {
	// Not derived from the request's context, which ends when a shutdown begins, nor
	// from the store's, which may be nearly used up.
	c, cancel := context.WithTimeout(context.Background(), s.cfg.PublishTimeout)
	defer cancel()
	err := publish(c)
	s.health.publish.wrote(err)
	if err != nil {
		s.metrics.publishFailures.Inc()
	}
	return err
}

// storeContext bounds the time of one request's store queries. It is not derived from
// RequestCtx, which ends when a shutdown begins, before the requests under way are done.
func (s *Server) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.cfg.StoreTimeout)
}

// pathID returns the ID in the path, which the router leaves percent-encoded.
func pathID(ctx *fasthttp.RequestCtx) (filter.ID, error) {
	raw, _ := ctx.UserValue("id").(string)
	text, err := url.PathUnescape(raw)
	if err != nil {
		text = raw
	}
	u, err := uuid.Parse(text)
	if err != nil || len(text) != len(uuid.Nil.String()) {
		return "", &problem{kind: notFound, detail: fmt.Sprintf("%.60q can't be a filter's id: those are UUIDs, such as 01890a5d-ac96-774b-bcce-b302099a8057", text)}
	}
	return filter.ID(u.String()), nil
}

func writeJSON(ctx *fasthttp.RequestCtx, status int, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // ends with a newline, for terminals
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.SetBody(b.Bytes())
	return nil
}
