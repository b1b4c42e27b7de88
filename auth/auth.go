// Package auth authenticates: subscribers by tokens (JWT), and programs that use the
// API by keys. It does not decide what they may do.
//
// A token is accepted only if one of our keys signed it, by an algorithm of that kind
// of key: the token's header selects among our keys, and nothing else. It must name a
// subscriber and expire.
package auth

import (
	"errors"
	"time"
)

// Why a token is rejected. The texts are shown to the sender: they reveal nothing that
// a forger could use, and nothing of a token whose signature is not ours.
var (
	ErrMalformed  = errors.New("it is not a signed JWT in compact form, by " + allAlgorithms)
	ErrTooLong    = errors.New("it is too long")
	ErrSignature  = errors.New("it is not signed by a key that is known here")
	ErrClaims     = errors.New("its claims can't be read: want sub and jti, strings, exp and iat, numbers, no duplicates, and no text that is not Unicode")
	ErrNoSubject  = errors.New("it names no subscriber")
	ErrNoExpiry   = errors.New("it has no exp claim, or one that is no time")
	ErrExpired    = errors.New("it has expired")
	ErrNotYet     = errors.New("it is not valid yet")
	ErrRevoked    = errors.New("it was revoked")
	ErrAudience   = errors.New("its aud claim is not for this service")
	ErrIssuer     = errors.New("its iss claim is not one that is accepted here")
	ErrType       = errors.New("the typ in its header is not the one that is accepted here")
	ErrScope      = errors.New("its scope claim lacks what is needed here")
	ErrNoKeysYet  = errors.New("the keys to check it with could not be loaded yet")
	errBadKeyText = errors.New("want PEM (a public or private key, a certificate), a JWK, or a JWK set")
)

// MaxToken is the maximum size of a token, in bytes. Lists of the subject's
// groups can make it long.
const MaxToken = 16 << 10

// Terms are what tokens must contain, besides a subscriber and an expiry.
type Terms struct {
	Audience     []string // aud contains one of these; not checked if empty
	Issuers      []string // iss is one of these; not checked if empty
	SubjectClaim string   // the claim with the subscriber; sub if empty
	Type         string   // typ in the header, such as at+jwt; not checked if empty
	Scope        string   // contained in the claim scope or scp; not checked if empty
}

// Claims are the verified claims of a token.
type Claims struct {
	Subject string
	ID      string    // jti; may be empty
	Issued  time.Time // iat; zero if missing
	Expires time.Time
}
