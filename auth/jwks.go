package auth

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"eventstream/internal/redact"
	"eventstream/internal/trouble"
)

// JWKSConfig configures where keys are published. All but the URL may be zero.
type JWKSConfig struct {
	URL      string         // https, or http on loopback
	CA       *x509.CertPool // CAs trusted for the URL; the system's if nil
	Refresh  time.Duration  // 5 min if zero
	Pause    time.Duration  // minimum time between two fetches, however many tokens name unknown keys; 10 s if zero
	Patience time.Duration  // how long a token with an unknown key waits for a fetch; 2 s if zero
}

// JWKS holds the keys that an issuer publishes. While the URL can't be read, it
// keeps the last ones.
type JWKS struct {
	cfg     JWKSConfig
	client  *http.Client
	trouble *trouble.Trouble
	kick    chan struct{} // a token named an unknown key; capacity 1

	mu      sync.Mutex
	known   []Key
	loaded  time.Time     // when known was read; zero if never
	tried   time.Time     // when the last fetch started
	last    error         // of the last fetch
	fetched chan struct{} // closed when the next fetch is over
}

const (
	maxJWKS      = 512 << 10 // bytes
	fetchTimeout = 10 * time.Second
)

// NewJWKS returns a JWKS. It does no I/O: Run does.
func NewJWKS(cfg JWKSConfig, log *slog.Logger) (*JWKS, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || checkJWKSURL(u) != nil {
		return nil, fmt.Errorf("JWKS URL: %w", errJWKSURL)
	}
	cfg.Refresh = cmp.Or(cfg.Refresh, 5*time.Minute)
	cfg.Pause = cmp.Or(cfg.Pause, 10*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Second)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: cfg.CA}
	return &JWKS{
		cfg: cfg, kick: make(chan struct{}, 1), fetched: make(chan struct{}),
		client:  &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: checkRedirect},
		trouble: trouble.New(log, "can't read the JWKS; the keys read last stay", "the JWKS can be read again"),
	}, nil
}

var errJWKSURL = errors.New("want https://…, or http:// on a loopback address: whoever can change what comes from there can make tokens")

func checkJWKSURL(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && local) {
		return nil
	}
	return errJWKSURL
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= 3 {
		return errors.New("more than 3 redirects")
	}
	return checkJWKSURL(r.URL)
}

// Run fetches the keys regularly until ctx ends.
func (j *JWKS) Run(ctx context.Context) error {
	wait := time.Second
	for {
		err := j.fetch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		next := j.cfg.Refresh
		if err != nil {
			j.trouble.Failed(err, "in", wait)
			next, wait = wait, min(2*wait, 30*time.Second)
		} else {
			j.trouble.Worked()
			wait = time.Second
		}
		if !j.pause(ctx, next) {
			return nil
		}
	}
}

// pause waits until the next fetch: after next, or after cfg.Pause if a token names an
// unknown key. It returns false if ctx ends.
func (j *JWKS) pause(ctx context.Context, next time.Duration) bool {
	timer := time.NewTimer(min(next, j.cfg.Pause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	timer.Reset(next - min(next, j.cfg.Pause))
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-j.kick:
	}
	return true
}

// fetch fetches the keys once.
func (j *JWKS) fetch(ctx context.Context) error {
	j.mu.Lock()
	j.tried = time.Now()
	j.mu.Unlock()
	keys, err := j.read(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.last = err; err == nil {
		j.known, j.loaded = keys, time.Now()
	}
	close(j.fetched)
	j.fetched = make(chan struct{})
	return err
}

func (j *JWKS) read(ctx context.Context) ([]Key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, redact.Error(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	return parseJWKS(body)
}

// parseJWKS returns the keys of a published set that can verify tokens. It ignores
// others, and secrets and private keys, which do not belong in a public set.
func parseJWKS(body []byte) ([]Key, error) {
	if len(body) > maxJWKS {
		return nil, fmt.Errorf("more than %d bytes", maxJWKS)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys; at most %d are allowed", len(set.Keys), maxKeys)
	}
	var keys []Key
	for _, raw := range set.Keys {
		if k, err := parseJWK(raw); err == nil && k.sign == nil {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it is good for tokens: want RSA, EC on P-256, P-384 or P-521, or Ed25519")
	}
	return keys, nil
}

// keys returns the keys. If none of them is wanted, it waits briefly for a fetch,
// unless one has started just now.
func (j *JWKS) keys(ctx context.Context, wanted func(Key) bool) ([]Key, error) {
	j.mu.Lock()
	known, fetched, loaded := j.known, j.fetched, j.loaded
	fresh := time.Since(j.tried) < j.cfg.Pause
	j.mu.Unlock()
	if slices.ContainsFunc(known, wanted) {
		return known, nil
	}
	if !fresh || loaded.IsZero() {
		j.await(ctx, fetched)
		j.mu.Lock()
		known, loaded = j.known, j.loaded
		j.mu.Unlock()
	}
	if loaded.IsZero() {
		return nil, ErrNoKeysYet
	}
	return known, nil
}

// await requests a fetch, and waits for its end, at most cfg.Patience.
func (j *JWKS) await(ctx context.Context, fetched <-chan struct{}) {
	select {
	case j.kick <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Patience)
	defer cancel()
	select {
	case <-fetched:
	case <-ctx.Done():
	}
}

// Age returns how old the keys are; 0 if there are none yet.
func (j *JWKS) Age() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.loaded.IsZero() {
		return 0
	}
	return time.Since(j.loaded)
}

// ErrOldKeys reports keys that could not be refreshed for a long time.
var ErrOldKeys = errors.New("the JWKS can't be read: tokens by keys that are new there are rejected")

// Check returns ErrNoKeysYet if the keys were never read, and ErrOldKeys if they have
// missed several refreshes.
func (j *JWKS) Check() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	age := time.Since(j.loaded)
	switch {
	case j.loaded.IsZero() && j.last == nil:
		return ErrNoKeysYet
	case j.loaded.IsZero():
		return fmt.Errorf("the JWKS was never read; %w: %w", ErrNoKeysYet, j.last)
	case age > oldKeys*j.cfg.Refresh:
		return fmt.Errorf("%w; they are %v old: %w", ErrOldKeys, age.Round(time.Second), cmp.Or(j.last, errNotRead))
	}
	return nil
}

// oldKeys is how many refreshes may be missed until keys are old.
const oldKeys = 3

var errNotRead = errors.New("they are being read")
