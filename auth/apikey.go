package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Scope is what an API key allows. Each scope includes those before it.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write" // change filters
	ScopeAdmin Scope = "admin" // act on subscribers: issue tokens, close connections
)

var ranks = map[Scope]int{ScopeRead: 1, ScopeWrite: 2, ScopeAdmin: 3}

// ParseScope parses a scope's name.
func ParseScope(name string) (Scope, error) {
	if s := Scope(name); ranks[s] > 0 {
		return s, nil
	}
	return "", fmt.Errorf("scope %.40q: allowed are read, write and admin", name)
}

// Allows reports whether s includes need.
func (s Scope) Allows(need Scope) bool { return ranks[s] >= ranks[need] && ranks[need] > 0 }

// APIKey is what is stored about a key: not the key itself.
type APIKey struct {
	ID      string // the middle of the key; not secret
	Name    string // for people
	Scope   Scope
	Hash    [sha256.Size]byte // of the whole key, which has 256 random bits: no slow hash is needed
	Created time.Time
	Revoked time.Time // zero if it is valid
}

// A key is es_<id>_<secret>. By the prefix, secret scanners find leaked keys.
const (
	keyPrefix = "es_"
	keyIDLen  = 12
	keyLen    = len(keyPrefix) + keyIDLen + 1 + 43
)

// NewAPIKey creates a key. text is the key itself, to be shown once and not stored.
func NewAPIKey(name string, scope Scope) (k APIKey, text string, err error) {
	if err := checkName(name); err != nil {
		return APIKey{}, "", err
	}
	if _, err := ParseScope(string(scope)); err != nil {
		return APIKey{}, "", err
	}
	var id [keyIDLen / 2]byte
	var secret [32]byte
	rand.Read(id[:]) // never fails
	rand.Read(secret[:])
	k = APIKey{ID: hex.EncodeToString(id[:]), Name: name, Scope: scope, Created: time.Now().UTC().Truncate(time.Microsecond)}
	text = keyPrefix + k.ID + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	k.Hash = sha256.Sum256([]byte(text))
	return k, text, nil
}

func checkName(name string) error {
	switch n := utf8.RuneCountInString(name); {
	case n == 0 || n > 100:
		return fmt.Errorf("name of %d characters: want 1 to 100", n)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("name %.100q: control characters and broken UTF-8 are not allowed", name)
	}
	return nil
}

// APIKeyID returns the ID in the text of a key, or false if it can't be a key.
func APIKeyID(text string) (id string, ok bool) {
	if len(text) != keyLen || !strings.HasPrefix(text, keyPrefix) || text[len(keyPrefix)+keyIDLen] != '_' {
		return "", false
	}
	return text[len(keyPrefix):][:keyIDLen], true
}

// Is reports whether text is this key, in constant time.
func (k *APIKey) Is(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], k.Hash[:]) == 1
}
