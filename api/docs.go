package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// openAPI describes the API. A test checks the server against it.
//
//go:embed openapi.json
var openAPI []byte

//go:embed docs.html
var docsHTML string

// docs is openAPI as a plain HTML page that loads nothing else.
var docs = renderDocs()

// These two need no key. They share the rate limit for requests without a key.

func (s *Server) tellOpenAPI(ctx *fasthttp.RequestCtx) error {
	if err := s.guard.limits.take(ctx, ""); err != nil {
		return err
	}
	ctx.Response.Header.SetContentType("application/json")
	ctx.SetBody(openAPI)
	return nil
}

func (s *Server) tellDocs(ctx *fasthttp.RequestCtx) error {
	if err := s.guard.limits.take(ctx, ""); err != nil {
		return err
	}
	ctx.Response.Header.SetContentType("text/html; charset=utf-8")
	ctx.SetBody(docs)
	return nil
}

// The parts of openAPI that the page shows.
type (
	document struct {
		Info struct{ Title, Description string }
		Tags []struct {
			Name, Description string
			Operations        []operation `json:"-"`
		}
		Paths      map[string]map[string]operation
		Components struct {
			Schemas    map[string]json.RawMessage
			Parameters map[string]parameter
			Responses  map[string]response
		}
	}
	operation struct {
		Method, Path string `json:"-"`

		Tags                 []string
		OperationID          string
		Summary, Description string
		Parameters           []parameter
		RequestBody          *struct{ Content map[string]media }
		Responses            map[string]response
	}
	parameter struct {
		Ref                   string `json:"$ref"`
		Name, In, Description string
		Required              bool
	}
	response struct {
		Ref         string `json:"$ref"`
		Description string
		Content     map[string]media
	}
	media struct {
		Schema  json.RawMessage
		Example json.RawMessage
	}
)

// renderDocs panics if the embedded document is broken.
func renderDocs() []byte {
	var d document
	if err := json.Unmarshal(openAPI, &d); err != nil {
		panic(fmt.Sprintf("openapi.json: %v", err))
	}
	for i := range d.Tags {
		d.Tags[i].Operations = d.tagged(d.Tags[i].Name)
	}
	page := template.Must(template.New("docs").Funcs(template.FuncMap{
		"indent": indent, "paragraphs": func(s string) []string { return strings.Split(s, "\n\n") }, "upper": strings.ToUpper,
	}).Parse(docsHTML))
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil {
		panic(fmt.Sprintf("docs.html: %v", err))
	}
	return b.Bytes()
}

// tagged lists the operations with a tag, by path, and from create to delete.
func (d *document) tagged(tag string) []operation {
	var list []operation
	for path, methods := range d.Paths {
		for method, o := range methods {
			if slices.Contains(o.Tags, tag) {
				o.Method, o.Path = method, path
				d.resolve(&o)
				list = append(list, o)
			}
		}
	}
	order := []string{"post", "get", "put", "patch", "delete"}
	slices.SortFunc(list, func(a, b operation) int {
		if a.Path != b.Path {
			return strings.Compare(a.Path, b.Path)
		}
		return slices.Index(order, a.Method) - slices.Index(order, b.Method)
	})
	return list
}

// resolve replaces references to shared components by the components.
func (d *document) resolve(o *operation) {
	for i, p := range o.Parameters {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			o.Parameters[i] = d.Components.Parameters[name]
		}
	}
	for status, r := range o.Responses {
		if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
			o.Responses[status] = d.Components.Responses[name]
		}
	}
}

func indent(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}
