package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"eventstream/auth"
	"eventstream/filter"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/wire"
)

// Revocations tells which tokens were taken back. What was told may be told again.
type Revocations interface {
	RevocationsSince(context.Context, filter.Mark, func(auth.Revocation) error) (filter.Mark, error)
}

// revocations are the tokens that don't count any more. They come as orders, at
// once, and from the database, which alone has all: a gateway that asks for
// tokens takes nobody before it has read them, and looks every now and then for
// what it missed. While the database is away those that it knows stay.
type revocations struct {
	auth.Revoked
	gw    *Gateway
	store Revocations  // nil if there is none
	read  atomic.Int64 // when the database was last read, uptime in seconds; 0 if never
}

const (
	revocationsEvery = 2 * time.Second
	forgetEvery      = time.Minute
)

// unready tells why tokens can't be told from revoked ones, or "".
func (r *revocations) unready() string {
	if r.gw.cfg.Tokens == nil || r.store == nil || r.read.Load() > 0 {
		return ""
	}
	return "which tokens are revoked is not known yet: the database has not been read"
}

// run follows the database until ctx ends.
func (r *revocations) run(ctx context.Context) error {
	if r.gw.cfg.Tokens == nil {
		return nil
	}
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	wait := time.NewTimer(0)
	defer wait.Stop()
	reading := trouble.New(r.gw.log, "revocations of tokens can't be read; retrying", "revocations of tokens can be read again")
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
			wait.Reset(retryEvery)
		}
	}
}

// follow reads what is new in the database.
func (r *revocations) follow(ctx context.Context, mark filter.Mark) (next filter.Mark, err error) {
	news := false
	err = r.gw.within(ctx, func(ctx context.Context) (err error) {
		next, err = r.store.RevocationsSince(ctx, mark, func(v auth.Revocation) error {
			news = r.Add(v) || news
			return nil
		})
		return err
	})
	if news {
		r.expelAll(ctx)
	}
	if err != nil {
		return mark, err
	}
	r.read.Store(uptime.Seconds())
	return next, nil
}

// age returns the seconds since the database was last read.
func (r *revocations) age() int64 {
	if at := r.read.Load(); at > 0 {
		return uptime.Seconds() - at
	}
	return 0
}

// learn takes a revocation that came as an order.
func (r *revocations) learn(ctx context.Context, v auth.Revocation) {
	if r.gw.cfg.Tokens != nil && r.Add(v) {
		r.expelAll(ctx)
	}
}

// expelAll closes the connections whose tokens are revoked. Those that are not
// open yet look by themselves when they are.
func (r *revocations) expelAll(ctx context.Context) {
	r.gw.visit(ctx, func(s *worker, c *conn) { s.expel(c) })
}

// expel closes c if its token is revoked.
func (s *worker) expel(c *conn) bool {
	if c.state == joining || c.state >= closing || s.gw.cfg.Tokens == nil || !s.gw.revoked.Has(c.subscriber, c.pass) {
		return false
	}
	s.gw.metrics.expelled.Inc()
	s.close(c, wire.CloseNotAllowed, "the token was revoked")
	return true
}
