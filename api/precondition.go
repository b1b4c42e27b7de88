package api

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
)

// A filter's entity tag is its revision: "3".

func setETag(ctx *fasthttp.RequestCtx, f filter.Filter) {
	ctx.Response.Header.Set("ETag", `"`+strconv.FormatInt(f.Revision, 10)+`"`)
}

// isCurrent reports whether the client has this revision (If-None-Match).
func isCurrent(ctx *fasthttp.RequestCtx, revision int64) (bool, error) {
	tags, err := parseTags(ctx, "If-None-Match")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(tags, func(t tag) bool { return t.any || t.revision() == revision }), nil
}

// none is a revision that no filter has.
const none = -1

// ifMatch returns the revision that If-Match requires: 0 for any.
func (s *Server) ifMatch(c context.Context, ctx *fasthttp.RequestCtx, id filter.ID) (int64, error) {
	if len(ctx.Request.Header.Peek("If-None-Match")) > 0 {
		return 0, &problem{kind: badHeader, detail: "If-None-Match has no meaning here; use If-Match"}
	}
	tags, err := parseTags(ctx, "If-Match")
	if err != nil {
		return 0, err
	}
	var revisions []int64
	for _, t := range tags {
		if t.any {
			return 0, nil
		}
		if !t.weak {
			revisions = append(revisions, t.revision())
		}
	}
	switch {
	case tags == nil:
		return 0, nil
	case len(revisions) == 0 && tags[0].weak:
		return 0, &problem{kind: changed, detail: "If-Match compares strongly, and W/ makes a tag weak, so that it never matches (RFC 9110, 13.1.1): a proxy may have added that; send the tag without W/"}
	case len(revisions) == 0:
		return none, nil
	case len(revisions) == 1:
		return revisions[0], nil
	}
	// The store compares with one revision only. If the filter changes after this read,
	// it has none of the listed revisions.
	f, err := s.store.Get(c, id)
	s.health.postgres.saw(err)
	if err != nil {
		return 0, err
	}
	if slices.Contains(revisions, f.Revision) {
		return f.Revision, nil
	}
	return none, nil
}

// idempotencyKey returns the header's value, or "" if there is none.
func idempotencyKey(ctx *fasthttp.RequestCtx) (string, error) {
	const header, most = "Idempotency-Key", 255
	values := ctx.Request.Header.PeekAll(header)
	if len(values) == 0 {
		return "", nil
	}
	key := string(values[0])
	switch {
	case len(values) > 1:
		return "", &problem{kind: badHeader, detail: header + ": given twice"}
	case key == "" || len(key) > most || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", &problem{kind: badHeader, detail: fmt.Sprintf("%s: %.60q: want 1 to %d visible ASCII characters, such as a UUID", header, key, most)}
	}
	return key, nil
}

// tag is one entity tag of a header.
type tag struct {
	any  bool // *
	weak bool
	text string
}

// revision returns the tag's revision, or none if the tag is not ours.
func (t tag) revision() int64 {
	n, err := strconv.ParseInt(t.text, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != t.text {
		return none
	}
	return n
}

// parseTags parses a list of entity tags (RFC 9110, 8.8.3). It returns nil if
// there is no such header.
func parseTags(ctx *fasthttp.RequestCtx, header string) ([]tag, error) {
	lines := ctx.Request.Header.PeekAll(header)
	if len(lines) == 0 {
		return nil, nil
	}
	rest := strings.TrimSpace(string(bytes.Join(lines, []byte(","))))
	if rest == "*" {
		return []tag{{any: true}}, nil
	}
	var tags []tag
	for {
		t, after, ok := cutTag(rest)
		if !ok {
			return nil, &problem{kind: badHeader, detail: header + `: want "<revision>", as ETag gives it, a list of such, or *`}
		}
		tags = append(tags, t)
		if rest = strings.TrimLeft(after, ", \t"); rest == "" {
			return tags, nil
		}
	}
}

// cutTag parses the entity tag that s begins with, and returns what follows.
func cutTag(s string) (t tag, after string, ok bool) {
	s, t.weak = strings.CutPrefix(s, "W/")
	s, quoted := strings.CutPrefix(s, `"`)
	t.text, after, ok = strings.Cut(s, `"`)
	after = strings.TrimLeft(after, " \t")
	return t, after, ok && quoted && (after == "" || after[0] == ',')
}
