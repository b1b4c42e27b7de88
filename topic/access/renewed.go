package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"eventstream/internal/trouble"
)

// renewed is a credential that has an end. It is asked for when it is needed, and anew when
// four fifths of its time are over: brokers end a session with its credential. If that
// fails, it is used to its end. Those who need it at once share one question.
type renewed[T any] struct {
	ask     func(ctx context.Context) (value T, good time.Duration, err error)
	flight  singleflight.Group
	trouble *trouble.Trouble

	mu       sync.Mutex
	value    T
	due, end time.Time
}

func newRenewed[T any](ask func(context.Context) (T, time.Duration, error), what string, log *slog.Logger) *renewed[T] {
	return &renewed[T]{ask: ask, trouble: trouble.NewError(log, "can't get "+what+"; retrying", "got "+what+" again")}
}

func (r *renewed[T]) get(ctx context.Context) (value T, err error) {
	if value, due, _ := r.last(); time.Now().Before(due) {
		return value, nil
	}
	answer := r.flight.DoChan("", func() (any, error) { return r.renew() })
	select {
	case <-ctx.Done():
		return value, ctx.Err()
	case a := <-answer:
		if a.Err != nil {
			return value, a.Err
		}
		return a.Val.(T), nil
	}
}

func (r *renewed[T]) last() (value T, due, end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value, r.due, r.end
}

// renew asks. It belongs to no client: another one may wait for the answer.
func (r *renewed[T]) renew() (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*tokenTimeout)
	defer cancel()
	now := time.Now()
	value, good, err := r.ask(ctx)
	r.trouble.Saw(err)
	if err != nil {
		if value, _, end := r.last(); now.Before(end) {
			return value, nil
		}
		return value, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value, r.due, r.end = value, now.Add(good*4/5), now.Add(good)
	return value, nil
}
