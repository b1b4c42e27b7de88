// Package auth tells who somebody is: subscribers by tokens (JWT), programs that
// use the API by keys. It says nothing about what they may do with that.
//
// A token is accepted only if one of our keys signed it, by an algorithm of that kind of
// key: what the token says of itself chooses among our keys, and nothing else. It must
// name a subscriber and end at some time.
package auth

import (
	"errors"
	"time"
)

// Why a token is refused. The texts are for whoever sent it: they tell nothing
// that a forger could use, and nothing of a token whose signature is not ours.
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

// MaxToken bounds a token, in bytes. One that names its subject's groups may have many.
const MaxToken = 16 << 10

// Terms are what tokens have to say, beside who they are for and until when.
type Terms struct {
	Audience     []string // aud names one of these; not looked at if empty
	Issuers      []string // iss is one of these; not looked at if empty
	SubjectClaim string   // that names the subscriber; sub if empty
	Type         string   // typ in the header, such as at+jwt; not looked at if empty
	Scope        string   // that the claim scope, or scp, has among others; not looked at if empty
}

// Claims is what a token says, and its signature vouches for.
type Claims struct {
	Subject string
	ID      string    // jti; may be empty
	Issued  time.Time // iat; zero if it does not say
	Expires time.Time
}
