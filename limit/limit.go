// Package limit enforces rate limits: N in a period, with bursts of at most N (GCRA). A
// refused try is not charged, so a caller that keeps trying succeeds as soon as any other.
//
// Local counts in one process, Shared exactly across all that use one Redis.
package limit

import (
	"strings"
	"sync"
	"time"
)

// Rate is N per period. N must be positive: a zero Rate would divide by zero.
type Rate struct {
	N   int
	Per time.Duration
}

// interval is the time between two tries at the full rate.
func (r Rate) interval() time.Duration { return max(r.Per/time.Duration(r.N), time.Microsecond) }

// Decision is the result of one try.
type Decision struct {
	OK    bool
	Left  int           // how many more would be allowed now
	Full  time.Duration // until N would be allowed
	Retry time.Duration // until the same try would be allowed, if this one was not
}

// of is the time that n tries use.
func (r Rate) of(n int) time.Duration { return time.Duration(n) * r.interval() }

// decide returns the Decision of a try to take n, after which taken of the period is used.
func (r Rate) decide(ok bool, taken time.Duration, n int) Decision {
	d := Decision{OK: ok, Full: taken, Left: int(max(r.Per-taken, 0) / r.interval())}
	if !ok {
		d.Retry = max(taken+r.of(n)-r.Per, time.Microsecond)
	}
	return d
}

// maxNames bounds the memory of a Local. Beyond it, new names share one.
const maxNames = 100_000

// Local counts in this process. The zero value works.
type Local struct {
	mu      sync.Mutex
	until   map[string]time.Time // when all used time is over, by name
	cleaned time.Time
}

// Take is one try under a name.
func (l *Local) Take(name string, r Rate, now time.Time) Decision { return l.TakeN(name, r, 1, now) }

// TakeN is a try for n, at most r.N.
func (l *Local) TakeN(name string, r Rate, n int, now time.Time) Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.until[name]
	if !ok {
		name = l.roomLocked(name, now)
		until = l.until[name]
	}
	if until.Before(now) {
		until = now
	}
	taken := until.Sub(now)
	if taken+r.of(n) > r.Per {
		return r.decide(false, taken, n)
	}
	if !ok {
		name = strings.Clone(name) // name may be part of a request, whose memory should be freed
	}
	l.until[name] = until.Add(r.of(n))
	return r.decide(true, taken+r.of(n), n)
}

// Undo takes back one allowed try under a name. It does nothing if the try's time is over.
func (l *Local) Undo(name string, r Rate, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.until[name]
	if !ok {
		name = "" // the shared name may have been charged; see roomLocked
		until, ok = l.until[name]
	}
	switch until = until.Add(-r.interval()); {
	case !ok:
	case until.After(now):
		l.until[name] = until
	default:
		delete(l.until, name)
	}
}

// roomLocked returns the name to charge for a new name: itself, or "" if there are too many.
func (l *Local) roomLocked(name string, now time.Time) string {
	if l.until == nil {
		l.until = make(map[string]time.Time)
	}
	if len(l.until) < maxNames {
		return name
	}
	if now.Sub(l.cleaned) >= time.Second { // at most once a second: this visits all names
		l.cleaned = now
		for n, until := range l.until {
			if !until.After(now) {
				delete(l.until, n)
			}
		}
	}
	if len(l.until) < maxNames {
		return name
	}
	return ""
}
