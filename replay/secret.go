package replay

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
)

// Secrets are what filter services share with those who may ask them. The first is
// shown, each is accepted, so that they can be replaced in one process after the
// other. Without any, everybody may ask.
type Secrets []string

const (
	minSecret  = 32 // bytes
	maxSecrets = 8
)

// ParseSecrets reads secrets that are separated by commas; "" is none.
func ParseSecrets(text string) (Secrets, error) {
	if text == "" {
		return nil, nil
	}
	var s Secrets
	for i, secret := range strings.Split(text, ",") {
		secret = strings.TrimSpace(secret)
		if len(secret) < minSecret {
			return nil, fmt.Errorf("secret %d has %d characters; want at least %d", i+1, len(secret), minSecret)
		}
		if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("secret %d: allowed are printable ASCII characters without spaces and commas", i+1)
		}
		s = append(s, secret)
	}
	if len(s) > maxSecrets {
		return nil, fmt.Errorf("%d secrets; at most %d are allowed", len(s), maxSecrets)
	}
	return s, nil
}

const scheme = "Bearer "

// show adds the secret to a request.
func (s Secrets) show(h http.Header) {
	if len(s) > 0 {
		h.Set("Authorization", scheme+s[0])
	}
}

// admit reports whether a request may be served.
func (s Secrets) admit(h http.Header) bool {
	shown, found := strings.CutPrefix(h.Get("Authorization"), scheme)
	good := 0
	for _, secret := range s {
		good |= subtle.ConstantTimeCompare([]byte(shown), []byte(secret))
	}
	return len(s) == 0 || found && good == 1
}
