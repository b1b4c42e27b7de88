package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"eventstream/internal/jsontext"
)

// Key is one of our keys. Its kind fixes the algorithm.
type Key struct {
	ID         string                    // kid; if empty, the key matches tokens with any kid
	algorithms []jose.SignatureAlgorithm // the first one signs
	verify     any                       // of the type that go-jose expects
	sign       any                       // nil if it can only verify
}

// The algorithms of each kind of key. They are disjoint, and "none" is not among them:
// a public key is never used as a secret.
var (
	rsaAlgorithms    = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	ecAlgorithms     = map[elliptic.Curve][]jose.SignatureAlgorithm{elliptic.P256(): {jose.ES256}, elliptic.P384(): {jose.ES384}, elliptic.P521(): {jose.ES512}}
	edAlgorithms     = []jose.SignatureAlgorithm{jose.EdDSA}
	secretAlgorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512} // for secrets of 32, 48 and 64 bytes

	algorithms = slices.Concat(rsaAlgorithms, ecAlgorithms[elliptic.P256()], ecAlgorithms[elliptic.P384()], ecAlgorithms[elliptic.P521()], edAlgorithms, secretAlgorithms)
)

// allAlgorithms lists them for error messages.
const allAlgorithms = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384 or HS512"

const (
	maxKeys      = 64
	minSecret    = 32   // bytes, as RFC 7518 section 3.2 requires for HS256
	minRSA       = 2048 // bits
	maxRSA       = 8192 // more makes verifying too expensive
	secretLetter = "letters, digits and -_+/=."
)

// ParseKeys parses a file's content: PEM, a JWK, or a JWK set. A private key also verifies.
func ParseKeys(data []byte) ([]Key, error) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("{")) {
		return parseJWKs(data)
	}
	var keys []Key
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errBadKeyText
		}
		raw, err := parseBlock(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %q: %w", block.Type, err)
		}
		k, err := newKey("", raw)
		if err != nil {
			return nil, fmt.Errorf("PEM block %q: %w", block.Type, err)
		}
		keys, data = append(keys, k), bytes.TrimSpace(rest)
	}
	if len(keys) == 0 {
		return nil, errBadKeyText
	}
	return keys, nil
}

func parseBlock(b *pem.Block) (any, error) {
	switch b.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(b.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(b.Bytes)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(b.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	return nil, errBadKeyText
}

// parseJWKs parses a JWK or a set, all of whose keys must be usable for tokens.
func parseJWKs(data []byte) ([]Key, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("JWK: %w", err)
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{data}
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("JWK set: %d keys; at most %d are allowed", len(set.Keys), maxKeys)
	}
	var keys []Key
	for i, raw := range set.Keys {
		k, err := parseJWK(raw)
		if err != nil {
			return nil, fmt.Errorf("JWK %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("JWK set: it is empty")
	}
	return keys, nil
}

func parseJWK(raw []byte) (Key, error) {
	if _, flaw := jsontext.Flaw(raw); flaw != "" {
		return Key{}, errors.New(flaw) // invalid Unicode would change its kid
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return Key{}, err
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return Key{}, fmt.Errorf("use %.20q: want sig", jwk.Use)
	}
	k, err := newKey(jwk.KeyID, jwk.Key)
	if err == nil && jwk.Algorithm != "" {
		only := jose.SignatureAlgorithm(jwk.Algorithm)
		if !slices.Contains(k.algorithms, only) {
			return k, fmt.Errorf("alg %.20q: for this kind of key want one of %s", jwk.Algorithm, k.algorithms)
		}
		k.algorithms = []jose.SignatureAlgorithm{only}
	}
	return k, err
}

// newKey converts a key of the standard library.
func newKey(id string, raw any) (Key, error) {
	k := Key{ID: id, verify: raw}
	switch private := k.verify.(type) {
	case *rsa.PrivateKey:
		k.sign, k.verify = private, &private.PublicKey
	case *ecdsa.PrivateKey:
		k.sign, k.verify = private, &private.PublicKey
	case ed25519.PrivateKey:
		k.sign, k.verify = private, private.Public()
	case []byte:
		k.sign = private
	}
	switch public := k.verify.(type) {
	case *rsa.PublicKey:
		k.algorithms = rsaAlgorithms
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA {
			return k, fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if k.algorithms = ecAlgorithms[public.Curve]; k.algorithms == nil {
			return k, fmt.Errorf("an EC key on %s: want P-256, P-384 or P-521", public.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		k.algorithms = edAlgorithms
	case []byte:
		if len(public) < minSecret {
			return k, fmt.Errorf("a secret of %d bytes: want at least %d", len(public), minSecret)
		}
		k.algorithms = secretAlgorithms[:min(len(public)/16-1, len(secretAlgorithms))]
	default:
		return k, fmt.Errorf("a key of type %T: want RSA, EC on P-256, P-384 or P-521, Ed25519 or a secret", raw)
	}
	return k, nil
}

// ParseSecrets parses secrets, separated by commas, each optionally after its kid and a
// colon: "2026a:h3K…,2025b:Zr0…".
func ParseSecrets(text string) ([]Key, error) {
	var keys []Key
	for i, part := range strings.Split(text, ",") {
		id, secret, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			id, secret = "", id
		}
		if strings.ContainsFunc(secret, func(r rune) bool { return !secretRune(r) }) {
			return nil, fmt.Errorf("secret %d: allowed are %s", i+1, secretLetter)
		}
		k, err := newKey(id, []byte(secret))
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func secretRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_+/=.", r)
}

// fits reports whether a token with this header may be signed by k.
func (k *Key) fits(algorithm, kid string) bool {
	return slices.Contains(k.algorithms, jose.SignatureAlgorithm(algorithm)) && (k.ID == "" || kid == "" || k.ID == kid)
}

// CheckKeys rejects keys that a token's header can't tell apart.
func CheckKeys(keys []Key) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("%d keys; at most %d are allowed", len(keys), maxKeys)
	}
	for i, k := range keys {
		same := func(other Key) bool { return k.ID != "" && other.ID == k.ID }
		if slices.ContainsFunc(keys[:i], same) {
			return fmt.Errorf("two keys have the kid %.40q", k.ID)
		}
	}
	return nil
}
