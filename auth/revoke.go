package auth

import (
	"hash/maphash"
	"sync"
	"time"
)

// Revocation invalidates tokens before they expire: all of a subscriber that were
// issued until a time, or one token.
type Revocation struct {
	Subscriber string    `json:"subscriber,omitempty"`
	TokenID    string    `json:"token_id,omitempty"` // jti; instead of Subscriber
	At         time.Time `json:"at"`
	Expires    time.Time `json:"expires"` // all its tokens have expired by then
}

// Pass is what a connection keeps of its token, to check revocations.
type Pass struct {
	token  uint64 // hash of its ID; 0 without one
	issued int64  // Unix milliseconds; 0 if missing
}

// Pass returns what a connection keeps of a token.
func (c Claims) Pass() Pass {
	p := Pass{token: tokenHash(c.ID)}
	if !c.Issued.IsZero() {
		p.issued = c.Issued.UnixMilli()
	}
	return p
}

var seed = maphash.MakeSeed() // random per process, so that no one can construct IDs with the same hash

func tokenHash(id string) uint64 {
	if id == "" {
		return 0
	}
	return maphash.String(seed, id)
}

// Revoked is a set of Revocations. Each takes some 40 bytes. The zero value is empty.
// All methods may be called concurrently.
type Revoked struct {
	mu          sync.RWMutex
	tokens      map[uint64]int64        // by hash: when to forget it, Unix seconds
	subscribers map[string]revokedUntil // by id
}

type revokedUntil struct {
	at      int64 // tokens issued until then are revoked, Unix milliseconds
	expires int64 // when to forget it, Unix seconds
}

// Add adds a Revocation, and reports whether it changed the set.
func (r *Revoked) Add(v Revocation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens == nil {
		r.tokens, r.subscribers = make(map[uint64]int64), make(map[string]revokedUntil)
	}
	expires := v.Expires.Unix()
	if v.Subscriber != "" {
		old := r.subscribers[v.Subscriber]
		u := revokedUntil{max(old.at, v.At.UnixMilli()), max(old.expires, expires)}
		r.subscribers[v.Subscriber] = u
		return u != old
	}
	token := tokenHash(v.TokenID)
	if token == 0 {
		return false
	}
	old, known := r.tokens[token]
	r.tokens[token] = max(old, expires)
	return !known
}

// Has reports whether a subscriber's token is revoked. A token without iat counts as
// issued before any revocation.
func (r *Revoked) Has(subscriber string, p Pass) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.tokens[p.token]; ok {
		return true
	}
	u, ok := r.subscribers[subscriber]
	return ok && p.issued <= u.at
}

// Len returns how many Revocations there are.
func (r *Revoked) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.tokens) + len(r.subscribers)
}

// Forget removes Revocations whose tokens have expired.
func (r *Revoked) Forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, expires := range r.tokens {
		if expires < now.Unix() {
			delete(r.tokens, token)
		}
	}
	for id, u := range r.subscribers {
		if u.expires < now.Unix() {
			delete(r.subscribers, id)
		}
	}
}
