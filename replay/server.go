package replay

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"eventstream/internal/trouble"
)

const (
	bodyTimeout = 5 * time.Second
	// stall bounds how long an asker may take nothing at all of what is written.
	stall = 5 * time.Minute
)

// Handler serves requests of those who know a secret. serve writes the answer to w;
// what it returns before Writer.Begin is the answer itself: see the errors of this
// package.
func Handler(serve func(ctx context.Context, r Request, w *Writer) error, secrets Secrets, log *slog.Logger) http.Handler {
	broken := trouble.NewError(log, "replay failed", "replays work again")
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if !secrets.admit(req.Header) { // before anything of the body is read
			hangUp(rw)
			refuse(rw, ErrDenied, broken)
			return
		}
		r, err := readRequest(rw, req)
		w := &Writer{w: rw, rc: http.NewResponseController(rw)}
		if err == nil {
			err = serve(req.Context(), r, w)
		}
		switch {
		case err == nil:
			broken.Worked()
		case req.Context().Err() != nil:
		case w.begun:
			log.Debug("a replay broke off", "err", err)
			w.fail(err)
		default:
			refuse(rw, err, broken)
		}
		w.over()
	})
}

func readRequest(w http.ResponseWriter, req *http.Request) (Request, error) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxRequest))
	if err != nil {
		hangUp(w)
		return Request{}, fmt.Errorf("%w: body: %w", ErrRequest, err)
	}
	rc.SetReadDeadline(time.Time{})
	return decodeRequest(body)
}

// hangUp has the connection closed after the answer, without a wait for the rest of the
// request's body.
func hangUp(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
}

// problem is RFC 9457's.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

type kind struct {
	err    error
	status int
	name   string
}

// kinds are the statuses of errors.
var kinds = [...]kind{
	{ErrRequest, http.StatusBadRequest, "bad-replay-request"},
	{ErrDenied, http.StatusUnauthorized, "unauthorized"},
	{ErrOtherTopic, http.StatusConflict, "other-topic"},
	{ErrBeyondEnd, http.StatusRequestedRangeNotSatisfiable, "beyond-end"},
	{ErrElsewhere, http.StatusMisdirectedRequest, "served-elsewhere"},
	{ErrUnavailable, http.StatusServiceUnavailable, "replay-unavailable"},
}

// Refused reports whether err says that a request is not served.
func Refused(err error) bool {
	return slices.ContainsFunc(kinds[:], func(k kind) bool { return errors.Is(err, k.err) })
}

// Busy returns an ErrUnavailable for a service that will serve again after a while.
func Busy(retryAfter time.Duration, why error) error { return &tooBusy{retryAfter, why} }

type tooBusy struct {
	retryAfter time.Duration
	why        error
}

func (b *tooBusy) Error() string { return fmt.Sprintf("%v: %v", ErrUnavailable, b.why) }

func (b *tooBusy) Unwrap() []error { return []error{ErrUnavailable, b.why} }

func refuse(w http.ResponseWriter, err error, broken *trouble.Trouble) {
	p := problem{Type: "urn:eventstream:problem:internal", Title: "We made a mistake", Status: http.StatusInternalServerError}
	known := false
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p = problem{Type: "urn:eventstream:problem:" + k.name, Title: k.err.Error(), Status: k.status, Detail: err.Error()}
			known = true
			break
		}
	}
	if !known {
		broken.Failed(err)
	}
	switch p.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		after := time.Second
		if b, ok := errors.AsType[*tooBusy](err); ok {
			after = b.retryAfter
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(max(1, after.Seconds())))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// Writer writes a stream: Begin, then Batch as often as there is one, then End. An
// error of one of them says that the asker is gone.
type Writer struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	buf   []byte

	mu    sync.Mutex
	fixed bool // the deadline stays as it is
}

// Begin tells what will be passed on, and what is lost below it.
func (w *Writer) Begin(from, to []int64, lost []Lost) error {
	w.begun = true
	w.w.Header().Set("Content-Type", "application/vnd.eventstream.replay")
	w.w.Header().Set("Cache-Control", "no-store")
	h := header{from, to, lost}
	return w.write(frameHeader, h.append(w.buf[:0]), nil)
}

// Batch writes one Batch.
func (w *Writer) Batch(b Batch) error {
	return w.write(frameBatch, appendBatch(w.buf[:0], &b), b.Entry)
}

// End says that this was all.
func (w *Writer) End() error { return w.write(frameEnd, nil, nil) }

// fail says why the stream breaks off.
func (w *Writer) fail(err error) {
	text := err.Error()
	w.write(frameFailure, []byte(text[:min(len(text), 4<<10)]), nil)
}

// Cut ends a call that waits for the asker, and makes all later ones fail. It may
// be called from another goroutine.
func (w *Writer) Cut() { w.deadline(time.Unix(1, 0), true) }

// over gives the connection back.
func (w *Writer) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fixed = true
	w.rc.SetWriteDeadline(time.Time{})
}

func (w *Writer) deadline(t time.Time, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.fixed {
		w.fixed = last
		w.rc.SetWriteDeadline(t)
	}
}

func (w *Writer) write(kind byte, body, more []byte) error {
	w.deadline(time.Now().Add(stall), false)
	w.buf = body
	head := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+1), uint64(1+len(body)+len(more)))
	for _, part := range [][]byte{append(head, kind), body, more} {
		if len(part) == 0 {
			continue
		}
		if _, err := w.w.Write(part); err != nil {
			return fmt.Errorf("write to the asker: %w", err)
		}
	}
	if err := w.rc.Flush(); err != nil {
		return fmt.Errorf("write to the asker: %w", err)
	}
	return nil
}
