// Package auth tells who somebody is: subscribers by tokens (JWT), programs that
// use the API by keys. It says nothing about what they may do with that.
//
// A token counts only if one of our keys signed it, by the one algorithm that
// goes with that key: what the token says of itself chooses among our keys, and
// nothing else. It must name a subject and end at some time.
package auth

import (
	"errors"
	"time"
)

// Why a token is refused. The texts are for whoever sent it: they tell nothing
// that a forger could use, and nothing of a token whose signature is not ours.
var (
	ErrMalformed  = errors.New("it is not a signed JWT in compact form, by RS256, ES256, EdDSA or HS256")
	ErrTooLong    = errors.New("it is too long")
	ErrSignature  = errors.New("it is not signed by a key that is known here")
	ErrClaims     = errors.New("its claims can't be read: want sub and jti, strings, exp and iat, numbers, no duplicates, and no text that is not Unicode")
	ErrNoSubject  = errors.New("it has no sub claim")
	ErrNoExpiry   = errors.New("it has no exp claim, or one that is no time")
	ErrExpired    = errors.New("it has expired")
	ErrNotYet     = errors.New("it is not valid yet")
	ErrRevoked    = errors.New("it was revoked")
	ErrAudience   = errors.New("its aud claim is not for this service")
	ErrNoKeysYet  = errors.New("the keys to check it with could not be loaded yet")
	errBadKeyText = errors.New("want PEM (a public or private key, a certificate), a JWK, or a JWK set")
)

// MaxToken bounds a token, in bytes. One that names its subject's groups may have many.
const MaxToken = 16 << 10

// Claims is what a token says, and its signature vouches for.
type Claims struct {
	Subject string
	ID      string    // jti; may be empty
	Issued  time.Time // iat; zero if it does not say
	Expires time.Time
}
