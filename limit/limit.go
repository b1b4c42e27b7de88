// Package limit bounds how often something may happen: so many times in a
// period, and that many at once at most (GCRA). What is refused costs nothing,
// so that whoever keeps trying gets through as soon as anybody.
//
// Local counts for one process, Shared exactly for all that have one Redis.
package limit

import (
	"strings"
	"sync"
	"time"
)

// Rate is N times in a period. The zero Rate bounds nothing.
type Rate struct {
	N   int
	Per time.Duration
}

// interval is the time that one takes up.
func (r Rate) interval() time.Duration { return max(r.Per/time.Duration(r.N), time.Microsecond) }

// Decision is what became of one try.
type Decision struct {
	OK    bool
	Left  int           // how many more would pass now
	Full  time.Duration // until all N would
	Retry time.Duration // until one would, if this one did not
}

// of is the time that n take up.
func (r Rate) of(n int) time.Duration { return time.Duration(n) * r.interval() }

// decide says what it means that so much time is taken up after a try to take n.
func (r Rate) decide(ok bool, taken time.Duration, n int) Decision {
	d := Decision{OK: ok, Full: taken, Left: int(max(r.Per-taken, 0) / r.interval())}
	if !ok {
		d.Retry = max(taken+r.of(n)-r.Per, time.Microsecond)
	}
	return d
}

// maxNames bounds what a Local remembers. Past that, newcomers share one name.
const maxNames = 100_000

// Local counts in this process. The zero value works.
type Local struct {
	mu      sync.Mutex
	until   map[string]time.Time // up to when time is taken up, by name
	cleaned time.Time
}

// Take is one try under a name.
func (l *Local) Take(name string, r Rate, now time.Time) Decision { return l.TakeN(name, r, 1, now) }

// TakeN is a try that counts as n, which is at most r's N.
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
		name = strings.Clone(name) // it may be a part of a whole request, which is not to stay
	}
	l.until[name] = until.Add(r.of(n))
	return r.decide(true, taken+r.of(n), n)
}

// Undo takes one try back that passed under a name. It changes nothing if the try's
// time is over.
func (l *Local) Undo(name string, r Rate, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.until[name]
	if !ok {
		name = "" // it may have been counted there; see roomLocked
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

// roomLocked returns the name to count a newcomer under.
func (l *Local) roomLocked(name string, now time.Time) string {
	if l.until == nil {
		l.until = make(map[string]time.Time)
	}
	if len(l.until) < maxNames {
		return name
	}
	if now.Sub(l.cleaned) >= time.Second { // all of them are looked at
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
