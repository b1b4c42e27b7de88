package api

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"eventstream/filter"
	"eventstream/filter/expr"
)

// mediaTypes are the allowed types of a body. The form type is accepted too, since curl
// -d sends it by default.
type mediaTypes []string

var (
	plainJSON  = mediaTypes{"application/json"}
	mergePatch = mediaTypes{"application/merge-patch+json", "application/json"}
	ndjson     = mediaTypes{"application/x-ndjson", "application/ndjson", "application/json"}
)

const formType = "application/x-www-form-urlencoded"

// spec returns the Spec in the request's body.
func (s *Server) spec(ctx *fasthttp.RequestCtx) (filter.Spec, error) {
	body, err := s.readBody(ctx, plainJSON)
	if err != nil {
		return filter.Spec{}, err
	}
	return filter.ParseSpec(body, expr.Translate)
}

// readBody returns the request's body.
func (s *Server) readBody(ctx *fasthttp.RequestCtx, allowed mediaTypes) ([]byte, error) {
	if err := allowed.check(ctx); err != nil {
		return nil, err
	}
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return nil, nil
	}
	var b bytes.Buffer
	length := ctx.Request.Header.ContentLength() // negative if unknown
	if length > 0 {
		b.Grow(min(length, s.cfg.MaxBodyBytes) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(stream, int64(s.cfg.MaxBodyBytes)+1)); err != nil {
		return nil, malformed(err)
	}
	if length > b.Len() && b.Len() <= s.cfg.MaxBodyBytes {
		return nil, malformed(io.ErrUnexpectedEOF) // fasthttp reports no error if the connection ends within the body
	}
	if b.Len() > s.cfg.MaxBodyBytes {
		return nil, refuseLarge(stream, length, int64(s.cfg.MaxBodyBytes))
	}
	return b.Bytes(), nil
}

// refuseLarge reads up to 4 MiB more of the body: closing a connection with much of it
// unread often resets it before the client has read the answer.
func refuseLarge(stream io.Reader, length int, most int64) error {
	const patience = 4 << 20
	io.CopyN(io.Discard, stream, patience)
	size := fmt.Sprintf("%d bytes", length)
	if length < 0 {
		size = fmt.Sprintf("more than %d bytes", most)
	}
	return &problem{kind: tooLarge, detail: fmt.Sprintf("the body has %s; at most %d are allowed", size, most)}
}

func (m mediaTypes) check(ctx *fasthttp.RequestCtx) error {
	got := string(ctx.Request.Header.ContentType())
	if coding := ctx.Request.Header.ContentEncoding(); len(coding) > 0 && string(coding) != "identity" {
		ctx.Response.Header.Set("Accept-Encoding", "identity")
		return &problem{kind: mediaType, detail: fmt.Sprintf("Content-Encoding %.60q is not supported; send the JSON as it is", coding)}
	}
	media, _, err := mime.ParseMediaType(got)
	if got == "" || err == nil && (slices.Contains(m, media) || media == formType) {
		return nil
	}
	header := "Accept"
	if ctx.IsPatch() {
		header = "Accept-Patch"
	}
	ctx.Response.Header.Set(header, strings.Join(m, ", "))
	return &problem{kind: mediaType, detail: fmt.Sprintf("Content-Type %.60q is not supported; send %s", got, strings.Join(m, " or "))}
}
