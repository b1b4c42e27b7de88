package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/filter/expr"
	"eventstream/internal/defect"
)

func (s *Server) createFilter(ctx *fasthttp.RequestCtx) error {
	spec, err := s.body(ctx)
	if err != nil {
		return err
	}
	c, cancel := s.storeContext()
	defer cancel()
	f, err := s.store.Create(c, spec)
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	ctx.Response.Header.Set("Location", "/filters/"+string(f.ID))
	return s.tellChange(ctx, fasthttp.StatusCreated, filter.Change{Filter: f})
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
	list, err := s.store.List(c, q.subscriber, q.after, q.limit+1) // one more tells whether there is a next page
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
	spec, err := s.body(ctx)
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
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	return s.tellChange(ctx, fasthttp.StatusOK, filter.Change{Filter: f})
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
	s.health.postgres.saw(err)
	if err != nil {
		return err
	}
	return s.tellChange(ctx, fasthttp.StatusNoContent, filter.Change{Filter: f, Deleted: true})
}

// unapplied is the answer to a write of which the filter service was not told.
type unapplied struct {
	filter.Filter
	Deleted bool   `json:"deleted,omitempty"`
	Applied bool   `json:"applied"`
	Detail  string `json:"detail"`
}

// tellChange tells the filter service of a stored change, and the client with
// the given status when that is done.
func (s *Server) tellChange(ctx *fasthttp.RequestCtx, status int, change filter.Change) error {
	if !change.Deleted {
		setETag(ctx, change.Filter)
	}
	if defect.On(defect.AnswerFirst) {
		go s.publish(change)
	} else if s.publish(change) != nil {
		s.metrics.publishFailures.Inc()
		return writeJSON(ctx, fasthttp.StatusAccepted, unapplied{
			Filter: change.Filter, Deleted: change.Deleted,
			Detail: "stored, but the filter service could not be told; it will apply this by itself, as soon as Redis is back",
		})
	}
	if status == fasthttp.StatusNoContent {
		ctx.SetStatusCode(status)
		return nil
	}
	return writeJSON(ctx, status, change.Filter)
}

// publish tells the filter service of a stored change.
func (s *Server) publish(change filter.Change) error {
	// Not from a request's context, which ends when a shutdown begins; and not
	// from the store's, most of whose time may be gone.
	c, cancel := context.WithTimeout(context.Background(), s.cfg.PublishTimeout)
	defer cancel()
	_, err := s.publisher.PublishFilter(c, change)
	s.health.publish.saw(err)
	return err
}

// storeContext bounds what one request may ask of the store. RequestCtx itself
// would end with the beginning of a shutdown and fail the requests under way.
func (s *Server) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.cfg.StoreTimeout)
}

// body returns the Spec in the request's body.
func (s *Server) body(ctx *fasthttp.RequestCtx) (filter.Spec, error) {
	if err := checkMediaType(ctx); err != nil {
		return filter.Spec{}, err
	}
	body := ctx.PostBody()
	if len(body) > s.cfg.MaxBodyBytes {
		return filter.Spec{}, &problem{kind: tooLarge, detail: fmt.Sprintf("the body has %d bytes; at most %d are allowed", len(body), s.cfg.MaxBodyBytes)}
	}
	return filter.ParseSpec(body, expr.Translate)
}

// checkMediaType lets pass what can be JSON: also the form type, which curl -d
// says without being told to.
func checkMediaType(ctx *fasthttp.RequestCtx) error {
	const allowed = "application/json"
	got := string(ctx.Request.Header.ContentType())
	if coding := ctx.Request.Header.ContentEncoding(); len(coding) > 0 && string(coding) != "identity" {
		ctx.Response.Header.Set("Accept-Encoding", "identity")
		return &problem{kind: mediaType, detail: fmt.Sprintf("Content-Encoding %.60q is not supported; send the JSON as it is", coding)}
	}
	media, _, err := mime.ParseMediaType(got)
	if got == "" || err == nil && (media == allowed || media == "application/x-www-form-urlencoded") {
		return nil
	}
	ctx.Response.Header.Set("Accept", allowed)
	return &problem{kind: mediaType, detail: fmt.Sprintf("Content-Type %.60q is not supported; send %s", got, allowed)}
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
	enc := json.NewEncoder(&b) // ends with a newline, for those who read it in a terminal
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.SetBody(b.Bytes())
	return nil
}
