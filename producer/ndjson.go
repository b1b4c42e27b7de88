package producer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/valyala/fastjson"

	"eventstream/event"
)

// maxLine is the longest line that can be an event.
const maxLine = event.MaxBytes

// ErrLineTooLong reports a line longer than a record may be.
var ErrLineTooLong = fmt.Errorf("longer than %d bytes", maxLine)

// LineError reports why a line is no event.
type LineError struct {
	Line int64 // counted from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Reader reads events from text with one JSON object per line, optionally compressed
// with gzip. Blank lines are skipped.
type Reader struct {
	in    io.Reader
	r     *bufio.Reader // nil before the first line
	line  int64
	check event.Decoder
	parse fastjson.Parser
}

// NewReader returns a Reader of in. It does no I/O: Next does.
func NewReader(in io.Reader) *Reader { return &Reader{in: in} }

// Next returns the next event, a *LineError for a bad line, or io.EOF.
func (r *Reader) Next() (Event, error) {
	if r.r == nil {
		if err := r.open(); err != nil {
			return Event{}, err
		}
	}
	for {
		line, err := r.readLine()
		if errors.Is(err, ErrLineTooLong) {
			return Event{}, &LineError{r.line, err}
		}
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			continue
		}
		if _, err := r.check.Decode(line, nil); err != nil {
			return Event{}, &LineError{r.line, err}
		}
		return Event{Key: r.key(line), Value: line}, nil
	}
}

// open finds out whether the input is compressed.
func (r *Reader) open() error {
	r.r = bufio.NewReaderSize(r.in, 64<<10)
	magic, err := r.r.Peek(2)
	if err != nil && err != io.EOF {
		return err
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r.r)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		r.r = bufio.NewReaderSize(z, 64<<10)
	}
	if bom, _ := r.r.Peek(3); string(bom) == "\xef\xbb\xbf" {
		r.r.Discard(3)
	}
	return nil
}

// readLine returns the next line without surrounding white space. The caller owns it.
// If a line is too long, the rest of it is skipped.
func (r *Reader) readLine() ([]byte, error) {
	r.line++
	var line []byte
	for {
		part, err := r.r.ReadSlice('\n')
		if len(line) <= maxLine {
			line = append(line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(line) > 0:
			// The last line needs no line break. The next call finds the end again.
		case err != nil:
			return nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) > maxLine {
			return nil, ErrLineTooLong
		}
		return line, nil
	}
}

// key returns the user of a valid event.
func (r *Reader) key(line []byte) []byte {
	v, err := r.parse.ParseBytes(line)
	if err != nil {
		return nil
	}
	user := v.Get("user_id")
	if user == nil {
		return nil
	}
	switch user.Type() {
	case fastjson.TypeString:
		return bytes.Clone(user.GetStringBytes())
	case fastjson.TypeNumber:
		return user.MarshalTo(nil)
	}
	return nil
}
