package admission

import (
	"context"
	"errors"

	"eventstream/auth"
	"eventstream/wire"
)

// Holder is a client that has a token, and sends a new one in its place.
type Holder interface {
	Subscriber() string
	Renewed(claims auth.Claims) // takes the new token's place
	Answer(text []byte)         // sends a message
}

// Renewals checks the tokens that clients send in place of those they came with. One
// goroutine does: a check costs some CPU, and may wait for an issuer's keys, which the
// pollers must not.
type Renewals struct {
	tokens  Tokens // nil if none are asked for
	revoked *Revocations
	queue   chan renewal
}

type renewal struct {
	holder Holder
	token  string
}

// maxRenewals bounds the tokens that wait. Past that clients are asked to try again; the
// tokens they have stay valid.
const maxRenewals = 1024

// NewRenewals returns Renewals of which none waits.
func NewRenewals(tokens Tokens, revoked *Revocations) *Renewals {
	return &Renewals{tokens: tokens, revoked: revoked, queue: make(chan renewal, maxRenewals)}
}

// Take notes a client's new token. It does not block.
func (r *Renewals) Take(h Holder, token string) error {
	if r.tokens == nil {
		return errors.New("this gateway asks for no tokens")
	}
	select {
	case r.queue <- renewal{h, token}:
		return nil
	default:
		return errors.New("too many tokens wait to be checked; try again in a few seconds")
	}
}

// Run checks until ctx ends.
func (r *Renewals) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-r.queue:
			claims, err := r.check(ctx, n)
			if err != nil {
				n.holder.Answer(wire.AppendError(nil, "bad_token", "the new token is rejected, and the one before stays valid: "+err.Error()))
				continue
			}
			n.holder.Renewed(claims)
		}
	}
}

// check returns what a new token says, or why it can't take the place of the one before.
func (r *Renewals) check(ctx context.Context, n renewal) (auth.Claims, error) {
	claims, err := r.tokens.Verify(ctx, n.token)
	if err == nil && claims.Subject != n.holder.Subscriber() {
		err = errors.New("it is another subscriber's")
	}
	if err == nil && r.revoked.Has(claims.Subject, claims.Pass()) {
		err = auth.ErrRevoked
	}
	return claims, err
}
