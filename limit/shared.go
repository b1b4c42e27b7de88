package limit

import (
	"context"
	"sync/atomic"
	"time"
)

// Redis is what a Shared needs of it. TakeTime uses interval more of a name's time if
// at most per is used then. It returns how much is used.
type Redis interface {
	TakeTime(ctx context.Context, name string, interval, per time.Duration) (ok bool, taken time.Duration, err error)
}

const (
	redisTimeout = 150 * time.Millisecond
	redisPause   = time.Second // after a failure Redis is not asked for so long
)

// Shared counts in Redis, for all processes together. While Redis does not answer, it
// counts in this process alone.
type Shared struct {
	redis Redis // nil: always in this process
	local Local
	down  atomic.Pointer[time.Time] // when to ask Redis again; nil if it answers
}

// NewShared returns a Shared. redis may be nil.
func NewShared(redis Redis) *Shared { return &Shared{redis: redis} }

// Take is one try under a name.
func (s *Shared) Take(ctx context.Context, name string, r Rate) Decision {
	return s.TakeN(ctx, name, r, 1)
}

// TakeN is a try for n, at most r.N.
func (s *Shared) TakeN(ctx context.Context, name string, r Rate, n int) Decision {
	now := time.Now()
	if s.redis == nil {
		return s.local.TakeN(name, r, n, now)
	}
	down := s.down.Load()
	if down != nil && now.Before(*down) {
		return s.local.TakeN(name, r, n, now)
	}
	again := now.Add(redisPause)
	if down != nil && !s.down.CompareAndSwap(down, &again) {
		return s.local.TakeN(name, r, n, now) // another goroutine tries Redis
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	ok, taken, err := s.redis.TakeTime(ctx, name, r.of(n), r.Per)
	if err != nil {
		s.down.Store(&again)
		return s.local.TakeN(name, r, n, now)
	}
	s.down.Store(nil)
	return r.decide(ok, taken, n)
}

// Alone reports whether this process counts alone because Redis does not answer.
func (s *Shared) Alone() bool { return s.down.Load() != nil }
