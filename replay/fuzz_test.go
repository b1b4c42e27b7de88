package replay

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// decode reads a whole stream.
func decode(raw []byte) (h header, all []Batch, err error) {
	f := frames{r: bufio.NewReader(bytes.NewReader(raw))}
	if err := f.open(); err != nil {
		return f.head, nil, err
	}
	for {
		b, err := f.batch()
		if err != nil {
			return f.head, all, err
		}
		b.Entry = bytes.Clone(b.Entry)
		all = append(all, b)
	}
}

// FuzzStream decodes anything. What can be decoded keeps its promises, and is the
// same when it is written and read again.
func FuzzStream(f *testing.F) {
	rec := httptest.NewRecorder()
	w := &Writer{w: rec, rc: http.NewResponseController(rec)}
	whole.write(w)
	w.End()
	f.Add(rec.Body.Bytes())
	f.Add(rec.Body.Bytes()[:30])
	f.Add([]byte{5, frameHeader, streamVersion, 0, 0, 0, 1, frameEnd})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, all, _ := decode(raw)
		next := append([]int64(nil), h.from...)
		for _, b := range all {
			if b.Next < next[b.Partition] || b.Next > h.to[b.Partition] || b.Lost != nil && b.Lost.To > b.Next {
				t.Fatalf("batch %+v at %v, of %+v", b, next, h)
			}
			next[b.Partition] = b.Next
		}
		if len(all) == 0 {
			return
		}
		rec := httptest.NewRecorder()
		w := &Writer{w: rec, rc: http.NewResponseController(rec)}
		(script{h.from, h.to, h.lost, all}).write(w)
		_, again, _ := decode(rec.Body.Bytes())
		if len(again) != len(all) {
			t.Fatalf("%d batches were written, %d read", len(all), len(again))
		}
	})
}
