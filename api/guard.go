package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/router"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"eventstream/auth"
	"eventstream/internal/trouble"
	"eventstream/internal/watchdog"
	"eventstream/origin"
)

// Keys lists the API keys, including revoked ones.
type Keys interface {
	APIKeys(context.Context) ([]auth.APIKey, error)
}

const (
	keysEvery   = time.Second     // how often keys are read: a revoked key is accepted no longer than that
	keysFirst   = keysEvery / 10  // the same before the first success
	keysTimeout = 2 * time.Second // for reading them
	keysMaxAge  = time.Minute     // how long keys are used after they were read, if they can't be read again
)

// guard decides which requests are allowed. All keys are in memory, and read again
// every second: no request waits for the database, and invalid keys cause no queries.
type guard struct {
	keys     Keys // nil: none required
	required bool
	hosts    origin.Hosts
	limits   *limits
	log      *slog.Logger
	pulse    *watchdog.Part // of run

	mu     sync.RWMutex
	byID   map[string]auth.APIKey // without the revoked ones
	any    bool                   // at least one key exists, perhaps revoked
	loaded time.Time              // when byID was read; zero if never
}

func newGuard(cfg Config, reg prometheus.Registerer, log *slog.Logger) *guard {
	return &guard{keys: cfg.Keys, required: cfg.RequireKey, hosts: cfg.Hosts, limits: newLimits(cfg.Limits, reg), log: log}
}

// run rereads the keys until ctx ends.
func (g *guard) run(ctx context.Context) {
	defer g.pulse.Done()
	if g.keys == nil {
		return
	}
	known := false
	reading := trouble.New(g.log, "API keys can't be read; those read last count for a while", "API keys can be read again")
	for {
		g.pulse.Beat()
		err := g.load(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil || known {
			reading.Saw(err, "for", keysMaxAge)
		}
		known = known || err == nil
		wait := keysEvery
		if !known {
			wait = keysFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (g *guard) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	began := time.Now()
	keys, err := g.keys.APIKeys(ctx)
	if err != nil {
		return err
	}
	byID := make(map[string]auth.APIKey, len(keys))
	for _, k := range keys {
		if k.Revoked.IsZero() {
			byID[k.ID] = k
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID, g.any, g.loaded = byID, len(keys) > 0, began
	return nil
}

// admit returns an error if the request is not allowed. It checks the route that the
// router has matched, so no spelling of a path avoids the check.
func (g *guard) admit(ctx *fasthttp.RequestCtx) error {
	path, _ := ctx.UserValue(router.MatchedRoutePathParam).(string)
	asked, err := g.asked()
	switch path { // no data about anyone
	case "/health", "/livez", "/readyz", "/docs", "/openapi.json":
		if !asked && err == nil {
			return g.checkHost(ctx)
		}
		return nil
	}
	need := scopeOf(string(ctx.Method()), path)
	if err != nil {
		return err
	}
	if !asked && (!mints(string(ctx.Method()), path) || local(ctx)) {
		if err := g.limits.take(ctx, ""); err != nil {
			return err
		}
		return g.checkPage(ctx)
	}
	k, err := g.find(ctx)
	if tooMany := g.limits.take(ctx, k.ID); tooMany != nil { // guessing keys is limited, too
		return tooMany
	}
	if err != nil {
		return err
	}
	if !k.Scope.Allows(need) {
		ctx.Response.Header.Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+string(need)+`"`)
		return &problem{kind: forbidden, detail: "the key's scope is " + string(k.Scope) + "; this needs " + string(need)}
	}
	return nil
}

// mints reports whether a route issues tokens. Other gateways may trust them, so even
// where no key is required, only local requests may issue tokens without one.
func mints(method, path string) bool { return path == tokensPath && method == fasthttp.MethodPost }

// local reports whether both ends of the connection are loopback addresses.
func local(ctx *fasthttp.RequestCtx) bool {
	here, ok := ctx.LocalAddr().(*net.TCPAddr)
	there, also := ctx.RemoteAddr().(*net.TCPAddr)
	return ok && also && here.IP.IsLoopback() && there.IP.IsLoopback()
}

// asked reports whether a key is needed.
func (g *guard) asked() (bool, error) {
	if g.keys == nil {
		return false, nil
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.loaded.IsZero() || time.Since(g.loaded) > keysMaxAge {
		return false, &problem{kind: keysUnknown, detail: "try again in " + retryAfter + " seconds"}
	}
	return g.any || g.required, nil
}

// reason returns an error if keys can't be checked.
func (g *guard) reason() error {
	if _, err := g.asked(); err != nil {
		return errors.New("API keys can't be read; the log tells why")
	}
	return nil
}

// scopeOf returns the scope that a request needs. Paths without a route need one, too.
func scopeOf(method, path string) auth.Scope {
	switch {
	case path == tokensPath, strings.HasPrefix(path, "/tokens/"), path == "/connections", strings.HasPrefix(path, "/connections/"):
		return auth.ScopeAdmin
	case method == fasthttp.MethodGet, method == fasthttp.MethodHead, path == "/filters:test": // a dry run changes nothing
		return auth.ScopeRead
	}
	return auth.ScopeWrite
}

// find returns the key of a request.
func (g *guard) find(ctx *fasthttp.RequestCtx) (auth.APIKey, error) {
	k, challenge, detail := g.look(&ctx.Request.Header)
	if detail == "" {
		return k, nil
	}
	ctx.Response.Header.Set("WWW-Authenticate", challenge)
	return auth.APIKey{}, &problem{kind: unauthorized, detail: detail}
}

// look finds the request's key. If it fails, it returns RFC 6750's challenge and the reason.
func (g *guard) look(h *fasthttp.RequestHeader) (k auth.APIKey, challenge, detail string) {
	lines := h.PeekAll("Authorization")
	if len(lines) == 0 {
		return k, "Bearer", "want the header Authorization: Bearer <key>; eventstream apikey create makes one"
	}
	scheme, text, _ := strings.Cut(string(lines[0]), " ")
	text = strings.TrimSpace(text)
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || text == "" {
		return k, "Bearer", "header Authorization: want Bearer and a key, once"
	}
	id, _ := auth.APIKeyID(text)
	g.mu.RLock()
	k, ok := g.byID[id]
	g.mu.RUnlock()
	if !k.Is(text) || !ok { // the same work if id is unknown, against timing attacks
		return auth.APIKey{}, `Bearer error="invalid_token"`, "the API key is not known, or was revoked"
	}
	return k, "", ""
}
