package admission

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"eventstream/auth"
	"eventstream/filter"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
)

// RevocationStore tells which tokens were revoked. What was told may be told again.
type RevocationStore interface {
	RevocationsSince(context.Context, filter.Mark, func(auth.Revocation) error) (filter.Mark, error)
}

// Revocations are the tokens that were revoked. They come as orders, at once, and from the
// database, which alone has all: a gateway that asks for tokens takes no client before it
// has read them, and looks every now and then for what it missed. While the database is
// away, those that it knows stay.
type Revocations struct {
	auth.Revoked
	store   RevocationStore // nil if there is none
	timeout time.Duration   // of a call to the store
	news    func(context.Context)
	log     *slog.Logger
	read    atomic.Int64 // when the database was last read, uptime in seconds; 0 if never
}

// NewRevocations returns Revocations that know nothing yet. They call news when there is
// one more. It does no I/O: Run does.
func NewRevocations(store RevocationStore, timeout time.Duration, news func(context.Context), log *slog.Logger) *Revocations {
	return &Revocations{store: store, timeout: timeout, news: news, log: log}
}

const (
	revocationsEvery = 2 * time.Second
	revocationsAgain = 250 * time.Millisecond // before they were read once
	forgetEvery      = time.Minute
)

// Known reports whether revoked tokens can be told from others.
func (r *Revocations) Known() bool { return r.store == nil || r.read.Load() > 0 }

// Run follows the database until ctx ends.
func (r *Revocations) Run(ctx context.Context) error {
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	wait := time.NewTimer(0)
	defer wait.Stop()
	reading := trouble.New(r.log, "revocations of tokens can't be read; retrying", "revocations of tokens can be read again")
	var mark filter.Mark
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-forget.C:
			r.Forget(now)
			continue
		case <-wait.C:
		}
		if r.store == nil {
			continue
		}
		next, err := r.follow(ctx, mark)
		if ctx.Err() != nil {
			return nil
		}
		reading.Saw(err)
		mark = next
		wait.Reset(revocationsEvery)
		if r.read.Load() == 0 {
			wait.Reset(revocationsAgain)
		}
	}
}

// follow reads what is new in the database.
func (r *Revocations) follow(ctx context.Context, mark filter.Mark) (next filter.Mark, err error) {
	news := false
	call, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	next, err = r.store.RevocationsSince(call, mark, func(v auth.Revocation) error {
		news = r.Add(v) || news
		return nil
	})
	if news {
		r.news(ctx)
	}
	if err != nil {
		return mark, err
	}
	r.read.Store(uptime.Seconds())
	return next, nil
}

// Age returns the seconds since the database was last read; 0 if it never was.
func (r *Revocations) Age() int64 {
	if at := r.read.Load(); at > 0 {
		return uptime.Seconds() - at
	}
	return 0
}

// Learn takes a revocation that came as an order.
func (r *Revocations) Learn(ctx context.Context, v auth.Revocation) {
	if r.Add(v) {
		r.news(ctx)
	}
}
