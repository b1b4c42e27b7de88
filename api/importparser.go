package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/filter"
	"eventstream/filter/expr"
)

// maxLineProblems bounds the problems reported for one import.
const maxLineProblems = 100

// lineProblem is a problem in one line of an import.
type lineProblem struct {
	Line int `json:"line"` // from 1
	filter.Problem
}

// importParser parses the body of an import.
type importParser struct {
	r        *bufio.Reader
	max      int // of lines
	maxBytes int // of one line
	read     prometheus.Counter
	err      error // why nothing is imported
}

func newImport(body io.Reader, cfg Config, read prometheus.Counter) *importParser {
	return &importParser{r: bufio.NewReaderSize(&bounded{body, cfg.MaxImportBytes, cfg.MaxImportBytes}, cfg.MaxBodyBytes+2), max: cfg.MaxImportLines, maxBytes: cfg.MaxBodyBytes, read: read}
}

// bounded fails after max bytes.
type bounded struct {
	r         io.Reader
	left, max int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, refuseLarge(b.r, -1, b.max)
	}
	return n, err
}

// specs yields the filter of each line. After the first bad line it yields no more
// filters, only collects further problems, and at the end yields p.err.
func (p *importParser) specs(yield func(filter.Spec, error) bool) {
	var bad []lineProblem
	n, line := 0, 0
	for len(bad) < maxLineProblems {
		text, err := p.next()
		if err == io.EOF {
			break
		}
		if line++; err == nil && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if n++; n > p.max {
			err = &problem{kind: tooLarge, detail: fmt.Sprintf("line %d is one too many: at most %d filters are allowed; nothing was imported", line, p.max)}
		}
		if err != nil && !errors.Is(err, errLongLine) {
			p.fail(yield, err)
			return
		}
		p.read.Inc()
		var s filter.Spec
		if err == nil {
			s, err = filter.ParseStored(text, expr.Translate)
		}
		switch {
		case err != nil:
			bad = append(bad, problemsOf(line, err)...)
		case len(bad) == 0 && !yield(s, nil):
			return
		}
	}
	switch {
	case len(bad) > 0:
		p.fail(yield, refusal(bad, line))
	case n == 0:
		p.fail(yield, &problem{kind: badImport, detail: "the body is empty; want one filter a line, as JSON"})
	}
}

func (p *importParser) fail(yield func(filter.Spec, error) bool, err error) {
	p.err = err
	yield(filter.Spec{}, err)
}

var errLongLine = errors.New("longer than a filter may be")

// next returns the next line, valid until the next call. For a line that is too long it
// returns errLongLine and skips it.
func (p *importParser) next() ([]byte, error) {
	text, err := p.r.ReadSlice('\n')
	long := len(text) > p.maxBytes+1
	for err == bufio.ErrBufferFull {
		long = true
		_, err = p.r.ReadSlice('\n')
	}
	switch {
	case err == io.EOF && len(text) == 0 && !long:
		return nil, io.EOF
	case err != nil && err != io.EOF:
		return nil, brokenOff(err)
	case long:
		return nil, fmt.Errorf("%w: at most %d bytes are allowed in a line", errLongLine, p.maxBytes)
	}
	return text, nil
}

// brokenOff returns the answer if the body ends early.
func brokenOff(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	return &problem{kind: badRequest, detail: "the body broke off; nothing was imported"}
}

// problemsOf lists the problems of a line.
func problemsOf(line int, err error) []lineProblem {
	invalid, ok := errors.AsType[*filter.Invalid](err)
	if !ok {
		return []lineProblem{{line, filter.Problem{Detail: err.Error()}}}
	}
	all := make([]lineProblem, len(invalid.Problems))
	for i, p := range invalid.Problems {
		all[i] = lineProblem{line, p}
	}
	return all
}

// refusal returns the answer to an import with bad lines, of which the
// first read were parsed.
func refusal(bad []lineProblem, read int) error {
	detail := fmt.Sprintf("of %d lines, these are wrong", read)
	if len(bad) >= maxLineProblems {
		bad = bad[:maxLineProblems]
		detail = fmt.Sprintf("these problems are in the first %d lines; those after them were not looked at", read)
	}
	return &problem{kind: badImport, detail: detail, lines: bad}
}
