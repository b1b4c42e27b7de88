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

// Keys knows the API keys, the revoked ones too.
type Keys interface {
	APIKeys(context.Context) ([]auth.APIKey, error)
}

const (
	keysEvery   = time.Second     // how often keys are read: a revoked one counts no longer than that
	keysFirst   = keysEvery / 10  // and until they were for the first time
	keysTimeout = 2 * time.Second // for reading them
	keysMaxAge  = time.Minute     // while they can't be read, those read last count so long
)

// guard knows who may use the API. All keys are in memory, read anew every
// second: no request waits for the database, and made-up keys cost it nothing.
type guard struct {
	keys     Keys // nil: nobody is asked
	required bool
	hosts    origin.Hosts
	limits   *limits
	log      *slog.Logger
	pulse    *watchdog.Part // of run

	mu     sync.RWMutex
	byID   map[string]auth.APIKey // without the revoked ones
	any    bool                   // there is a key, or was one
	loaded time.Time              // when they were read last; zero if never
}

func newGuard(cfg Config, reg prometheus.Registerer, log *slog.Logger) *guard {
	return &guard{keys: cfg.Keys, required: cfg.RequireKey, hosts: cfg.Hosts, limits: newLimits(cfg.Limits, reg), log: log}
}

// run keeps the keys fresh until ctx ends.
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

// admit lets a request in, or says why not. It goes by the route that the
// request was found to have, so that no spelling of a path leads around it.
func (g *guard) admit(ctx *fasthttp.RequestCtx) error {
	path, _ := ctx.UserValue(router.MatchedRoutePathParam).(string)
	asked, err := g.asked()
	switch path { // says nothing of anybody
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
	if tooMany := g.limits.take(ctx, k.ID); tooMany != nil { // who guesses keys is slowed down, too
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

// mints reports whether a route makes tokens. Gateways elsewhere may believe them, so
// where nobody is asked for a key, strangers need one for that.
func mints(method, path string) bool { return path == tokensPath && method == fasthttp.MethodPost }

// local reports whether a request came by a loopback address, from one.
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

// reason says why keys can't be checked.
func (g *guard) reason() error {
	if _, err := g.asked(); err != nil {
		return errors.New("API keys can't be read; the log tells why")
	}
	return nil
}

// scopeOf returns what a key has to allow. What has no route needs a key, too.
func scopeOf(method, path string) auth.Scope {
	switch {
	case path == tokensPath, strings.HasPrefix(path, "/tokens/"), path == "/connections", strings.HasPrefix(path, "/connections/"):
		return auth.ScopeAdmin
	case method == fasthttp.MethodGet, method == fasthttp.MethodHead, path == "/filters:test": // it changes nothing
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

// look finds the key in a request's head, or says why not, with RFC 6750's challenge.
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
	if !k.Is(text) || !ok { // the same work for a key that is not there
		return auth.APIKey{}, `Bearer error="invalid_token"`, "the API key is not known, or was revoked"
	}
	return k, "", ""
}
