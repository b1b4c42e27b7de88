package auth

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MaxLifetime is the longest lifetime of the tokens that we issue.
const MaxLifetime = 365 * 24 * time.Hour

// ErrNoSigner reports that none of the keys can sign.
var ErrNoSigner = errors.New("none of the keys can sign: want a private key or a secret")

// Signer issues tokens.
type Signer struct {
	signer jose.Signer
	terms  Terms
}

// NewSigner returns a Signer that uses the first of the keys that can sign. Its tokens
// meet the terms; they name the first of several issuers.
func NewSigner(keys []Key, terms Terms) (*Signer, error) {
	for _, k := range keys {
		if k.sign == nil {
			continue
		}
		options := (&jose.SignerOptions{}).WithType(jose.ContentType(cmp.Or(terms.Type, "JWT")))
		if k.ID != "" {
			options = options.WithHeader("kid", k.ID)
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: k.algorithms[0], Key: k.sign}, options)
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		return &Signer{s, terms}, nil
	}
	return nil, ErrNoSigner
}

// Sign issues a token for a subscriber, which expires after lifetime.
func (s *Signer) Sign(subject string, lifetime time.Duration) (string, Claims, error) {
	if lifetime < time.Second || lifetime > MaxLifetime {
		return "", Claims{}, fmt.Errorf("lifetime %v: want 1s to %v", lifetime, MaxLifetime)
	}
	now := time.Now()
	c := Claims{Subject: subject, ID: rand.Text(), Issued: now.Truncate(time.Millisecond), Expires: now.Add(lifetime).Truncate(time.Second)}
	// With milliseconds, so that a token issued right after a revocation is not revoked.
	body := map[string]any{"sub": c.Subject, "jti": c.ID, "iat": float64(c.Issued.UnixMilli()) / 1000, "exp": c.Expires.Unix()}
	body[cmp.Or(s.terms.SubjectClaim, "sub")] = c.Subject
	switch len(s.terms.Audience) {
	case 0:
	case 1:
		body["aud"] = s.terms.Audience[0]
	default:
		body["aud"] = s.terms.Audience
	}
	if len(s.terms.Issuers) > 0 {
		body["iss"] = s.terms.Issuers[0]
	}
	if s.terms.Scope != "" {
		body["scope"] = s.terms.Scope
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return "", c, fmt.Errorf("token's claims: %w", err)
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", c, fmt.Errorf("sign token: %w", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return "", c, fmt.Errorf("write token: %w", err)
	}
	return token, c, nil
}
