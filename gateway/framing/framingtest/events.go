package framingtest

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parser reads a stream as the HTML standard says, section 9.2.6.
type Parser struct {
	R      *bufio.Reader
	skip   bool // an LF, which belongs to the CR before
	data   []byte
	event  string
	id     string // buffer
	Last   string // the source's last event ID
	Retry  int
	fields int      // of the message so far
	Lines  []string // all of them
}

type Event struct{ Kind, Data, ID string }

// line reads up to CRLF, LF or CR.
func (p *Parser) line() (string, error) {
	var b []byte
	for {
		c, err := p.R.ReadByte()
		if err != nil {
			return "", err // an incomplete line, and its event, do not count
		}
		skip := p.skip && c == '\n'
		p.skip = c == '\r'
		switch {
		case skip:
		case c == '\n' || c == '\r':
			if !utf8.Valid(b) {
				return "", fmt.Errorf("line %q is not UTF-8", b)
			}
			p.Lines = append(p.Lines, string(b))
			return string(b), nil
		default:
			b = append(b, c)
		}
	}
}

// Next returns the next event that a source would dispatch.
func (p *Parser) Next() (Event, error) {
	for {
		line, err := p.line()
		if err != nil {
			return Event{}, err
		}
		if line == "" {
			p.Last = p.id
			e := Event{p.event, strings.TrimSuffix(string(p.data), "\n"), p.Last}
			empty, fields := len(p.data) == 0, p.fields
			p.data, p.event, p.fields = nil, "", 0
			if !empty {
				return e, nil
			}
			if fields > 0 {
				return Event{}, errors.New("a message without data: some clients take that for an event")
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		if name != "" { // a comment
			p.fields++
		}
		switch name {
		case "event":
			p.event = value
		case "data":
			p.data = append(append(p.data, value...), '\n')
		case "id":
			if !strings.Contains(value, "\x00") {
				p.id = value
			}
		case "retry":
			if n, err := strconv.Atoi(value); err == nil {
				p.Retry = n
			}
		}
	}
}
