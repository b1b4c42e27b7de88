package auth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json" // rejects duplicate names, and is case-sensitive

	"eventstream/internal/jsontext"
)

// Config configures which tokens are accepted.
type Config struct {
	Keys []Key // static keys; several during a rotation
	JWKS *JWKS // published keys, or nil
	Terms
}

// Verifier checks tokens.
type Verifier struct {
	cfg  Config
	keys atomic.Pointer[[]Key] // cfg.Keys, or those of SetKeys
}

// NewVerifier returns a Verifier.
func NewVerifier(cfg Config) (*Verifier, error) {
	v := &Verifier{cfg: cfg}
	return v, v.SetKeys(cfg.Keys)
}

// SetKeys replaces the static keys.
func (v *Verifier) SetKeys(keys []Key) error {
	if err := CheckKeys(keys); err != nil {
		return err
	}
	v.keys.Store(&keys)
	return nil
}

// clockSkew is how far the clock of a token's issuer may be ahead of ours. It does not
// make tokens live longer.
const clockSkew = 30 * time.Second

// Verify returns a token's claims, or why it is rejected: one of this package's errors.
// If its key is unknown it may wait briefly for the JWKS.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > MaxToken {
		return Claims{}, fmt.Errorf("%w: %d bytes; at most %d are allowed", ErrTooLong, len(token), MaxToken)
	}
	if !strictBase64(token) {
		return Claims{}, ErrMalformed
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return Claims{}, ErrMalformed
	}
	header := signed.Signatures[0].Protected
	for _, odd := range []jose.HeaderKey{"crit", "b64"} { // these would change what is signed
		if _, has := header.ExtraHeaders[odd]; has {
			return Claims{}, ErrMalformed
		}
	}
	payload, err := v.open(ctx, signed, header)
	if err != nil {
		return Claims{}, err
	}
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); v.cfg.Type != "" && !sameType(typ, v.cfg.Type) {
		return Claims{}, ErrType
	}
	return v.claims(payload)
}

// strictBase64 reports whether a token's parts are base64url as RFC 7515 section 2
// defines it, without line breaks (which Go's decoder skips), padding and unused bits:
// so a token has only one text. The header must be valid Unicode, since it names a key.
func strictBase64(token string) bool {
	if strings.ContainsAny(token, "\r\n") {
		return false
	}
	header := true
	for part := range strings.SplitSeq(token, ".") {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return false
		}
		if _, flaw := jsontext.Flaw(raw); header && flaw != "" {
			return false
		}
		header = false
	}
	return true
}

// open checks the signature, and returns the payload.
func (v *Verifier) open(ctx context.Context, signed *jose.JSONWebSignature, header jose.Header) ([]byte, error) {
	keys := *v.keys.Load()
	if v.cfg.JWKS != nil {
		remote, err := v.cfg.JWKS.keys(ctx, func(k Key) bool { return k.fits(header.Algorithm, header.KeyID) })
		if err != nil && len(keys) == 0 {
			return nil, err
		}
		keys = slices.Concat(keys, remote)
	}
	for _, k := range keys {
		if !k.fits(header.Algorithm, header.KeyID) {
			continue
		}
		if payload, err := signed.Verify(k.verify); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}

// sameType compares media types, ignoring an optional application/ prefix (RFC 7515, 4.1.9).
func sameType(a, b string) bool {
	bare := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }
	return bare(a) == bare(b)
}

// claims parses and checks the verified payload.
func (v *Verifier) claims(payload []byte) (Claims, error) {
	var to, from, scopes, scp list
	c := struct {
		Exp *float64 `json:"exp"`
		Nbf *float64 `json:"nbf"`
		Iat *float64 `json:"iat"`
		Jti string   `json:"jti"`
	}{}
	var all map[string]strict.RawMessage
	if _, flaw := jsontext.Flaw(payload); flaw != "" || strict.Unmarshal(payload, &c) != nil || strict.Unmarshal(payload, &all) != nil {
		return Claims{}, ErrClaims
	}
	var subject string
	named := cmp.Or(v.cfg.SubjectClaim, "sub")
	if raw := all[named]; raw != nil && strict.Unmarshal(raw, &subject) != nil {
		return Claims{}, fmt.Errorf("%w, and %s, a string", ErrClaims, named)
	}
	asked := map[string]*list{"aud": &to}
	if len(v.cfg.Issuers) > 0 {
		asked["iss"] = &from
	}
	if v.cfg.Scope != "" {
		asked["scope"], asked["scp"] = &scopes, &scp
	}
	for claim, into := range asked {
		if into.parse(all[claim]) != nil {
			return Claims{}, fmt.Errorf("%w, and %s, a string or several", ErrClaims, claim)
		}
	}
	now := time.Now()
	expires, ok := numericDate(c.Exp)
	switch {
	case subject == "":
		return Claims{}, fmt.Errorf("%w: want a claim %s, a string that is not empty", ErrNoSubject, named)
	case !ok:
		return Claims{}, ErrNoExpiry
	case !now.Before(expires):
		return Claims{}, ErrExpired
	}
	if c.Nbf != nil {
		if from, ok := numericDate(c.Nbf); !ok || now.Add(clockSkew).Before(from) {
			return Claims{}, ErrNotYet
		}
	}
	issued, _ := numericDate(c.Iat) // an invalid iat counts as missing
	if now.Add(clockSkew).Before(issued) {
		return Claims{}, ErrNotYet // until then it could not be revoked
	}
	switch {
	case len(v.cfg.Audience) > 0 && !to.hasOneOf(v.cfg.Audience):
		return Claims{}, ErrAudience
	case len(v.cfg.Issuers) > 0 && (len(from) != 1 || !from.hasOneOf(v.cfg.Issuers)):
		return Claims{}, ErrIssuer
	case v.cfg.Scope != "" && !slices.Contains(slices.Concat(scopes.words(), scp.words()), v.cfg.Scope):
		return Claims{}, ErrScope
	}
	return Claims{Subject: subject, ID: c.Jti, Issued: issued, Expires: expires}, nil
}

// numericDate parses RFC 7519's NumericDate, up to the year 9999.
func numericDate(seconds *float64) (time.Time, bool) {
	if seconds == nil || !(*seconds >= 0 && *seconds < 253402300800) {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(*seconds)
	return time.Unix(int64(whole), 1000*int64(math.Round(fraction*1e6))), true
}

// list is a claim of one string or several.
type list []string

func (a list) hasOneOf(of []string) bool {
	return slices.ContainsFunc(of, func(s string) bool { return slices.Contains(a, s) })
}

// words splits a at spaces, as scopes are written (RFC 8693, 4.2).
func (a list) words() (all []string) {
	for _, s := range a {
		all = append(all, strings.Fields(s)...)
	}
	return all
}

func (a *list) parse(raw []byte) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] == '"' {
		var one string
		err := strict.Unmarshal(raw, &one)
		*a = list{one}
		return err
	}
	return strict.Unmarshal(raw, (*[]string)(a))
}
