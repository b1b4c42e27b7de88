package format

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sr"
	"golang.org/x/sync/singleflight"

	"eventstream/internal/trouble"
	"eventstream/topic"
)

// RegistryConfig holds what an operator may set. URLs are needed, the others work if they
// are zero.
type RegistryConfig struct {
	URLs  []string                                   // the first that answers is asked
	User  string                                     // of basic authentication; none if empty
	Proof func() (password, token string, err error) // is called for each request; one of the two is empty
	TLS   func() *tls.Config                         // of the next connection; the system's CAs if nil

	Grace time.Duration // how long an id may be unknown to the registry before that is final; 10 s if zero

	patience time.Duration // how long a caller waits for an answer; 2 s if zero
}

// Registry has the schemas of a Schema Registry that speaks Confluent's API. Each is asked
// for once. It keeps those that were used last, up to maxSchemas.
//
// A registry that can't be reached, or refuses us, says nothing about a schema: that is
// topic.ErrNotYet. So is an id that the registry does not know, as one that was registered
// just now may take a moment to get to the registry that we ask, but for Grace only.
type Registry struct {
	cfg     RegistryConfig
	web     *http.Client
	clients []*sr.Client
	first   atomic.Int64 // of clients to be asked: the one that answered last
	trouble *trouble.Trouble
	metrics *registryMetrics
	flight  singleflight.Group
	known   atomic.Pointer[map[key]*entry]
	clock   atomic.Int64 // of uses

	mu      sync.Mutex // is held to change known, too
	missing map[key]*miss
	outage  miss      // of the registry as a whole
	gaveUp  time.Time // on an id, last
}

// key names a schema as it is read. Only one kind is read of a registry, as a rule.
type key struct {
	kind Kind
	id   uint32
}

// entry is a schema, or what is wrong with it.
type entry struct {
	schema schema
	err    error
	used   atomic.Int64
}

// miss is a question that was in vain.
type miss struct {
	since, next time.Time // the first question that others were not in the way of; when it may be asked again
	failures    int
	err         error
	final       bool // it was given up
}

// Bounds.
const (
	maxSchemas  = 1000
	maxText     = 4 << 20 // of a schema and all that it refers to
	maxTexts    = 200     // of these
	maxMissing  = 1000
	askTimeout  = 10 * time.Second // for a schema and all that it refers to, of one URL
	retryFirst  = 100 * time.Millisecond
	retryMost   = 2 * time.Second
	askUnknown  = time.Minute // after which an id that the registry does not have is asked for again
	maxRedirect = 3
)

// NewRegistry returns a Registry. It asks nobody for anything.
func NewRegistry(cfg RegistryConfig, reg prometheus.Registerer, log *slog.Logger) (*Registry, error) {
	cfg.Grace = cmp.Or(cfg.Grace, 10*time.Second)
	cfg.patience = cmp.Or(cfg.patience, 2*time.Second)
	r := &Registry{
		cfg: cfg, missing: make(map[key]*miss),
		trouble: trouble.NewError(log, "the Schema Registry can't be used: events with schemas that are not known yet wait; retrying", "the Schema Registry can be used again"),
	}
	r.known.Store(new(map[key]*entry))
	r.metrics = newRegistryMetrics(reg, func() float64 { return float64(len(*r.known.Load())) })
	r.web = &http.Client{Transport: bounded{cfg.transport()}, CheckRedirect: sameHost}
	for i, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("URL %d of %d: want https://host/path, without a user", i+1, len(cfg.URLs))
		}
		cl, err := sr.NewClient(sr.URLs(text), sr.HTTPClient(r.web), sr.UserAgent("eventstream"), sr.PreReq(cfg.prove))
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, cl)
	}
	if len(r.clients) == 0 {
		return nil, errors.New("a Schema Registry needs a URL")
	}
	return r, nil
}

// Close closes connections that nobody uses.
func (r *Registry) Close() { r.web.CloseIdleConnections() }

// transport dials with the TLS configuration of that moment.
func (cfg RegistryConfig) transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 4
	if cfg.TLS != nil {
		t.TLSClientConfig = cfg.TLS() // behind a proxy
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			config := cfg.TLS()
			if config.ServerName == "" {
				config.ServerName, _, _ = net.SplitHostPort(addr)
			}
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		}
	}
	return t
}

// prove adds who we are.
func (cfg RegistryConfig) prove(req *http.Request) error {
	if cfg.Proof == nil {
		return nil
	}
	password, token, err := cfg.Proof()
	switch {
	case err != nil:
		return err
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case cfg.User != "":
		req.SetBasicAuth(cfg.User, password)
	}
	return nil
}

// sameHost follows no redirect to who is not to see our credentials.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirect || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// bounded bounds answers: the client reads them as a whole.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(req)
	if err == nil {
		long := errLong
		if resp.StatusCode == http.StatusOK { // it is a schema
			long = unusable{long}
		}
		resp.Body = &boundedBody{resp.Body, 2 * maxText, long} // in JSON it may be longer
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
	long error
}

var errLong = fmt.Errorf("the Schema Registry answers with more than %d bytes", 2*maxText)

func (b *boundedBody) Read(p []byte) (n int, err error) {
	n, err = b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, b.long
	}
	return n, err
}

// find returns a schema.
func (r *Registry) find(ctx context.Context, kind Kind, id uint32) (schema, error) {
	k := key{kind, id}
	if e := (*r.known.Load())[k]; e != nil {
		if now := r.clock.Load(); e.used.Load() != now {
			e.used.Store(now)
		}
		return e.schema, e.err
	}
	// The one question may last longer than any of those who wait for its answer does.
	answer := r.flight.DoChan(fmt.Sprint(k), func() (any, error) { return r.ask(k) })
	patience := time.NewTimer(r.cfg.patience)
	defer patience.Stop()
	select {
	case got := <-answer:
		if got.Err != nil {
			return nil, got.Err
		}
		e := got.Val.(*entry)
		return e.schema, e.err
	case <-patience.C:
		return nil, fmt.Errorf("%w: schema id %d: the Schema Registry has not answered yet", topic.ErrNotYet, id)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: schema id %d: %w", topic.ErrNotYet, id, ctx.Err())
	}
}

// ask asks the registry, unless it was asked just now.
func (r *Registry) ask(k key) (*entry, error) {
	if e := (*r.known.Load())[k]; e != nil {
		return e, nil
	}
	if err := r.recently(k, time.Now()); err != nil {
		return nil, err
	}
	e, err := r.fetch(k)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, topic.ErrNoSchema):
		r.metrics.requests.WithLabelValues("unknown").Inc()
		return nil, r.unknownLocked(k, now, fmt.Errorf("schema id %d: %w", k.id, err))
	case errors.Is(err, errDoubt): // others need not wait: who has them may answer
		r.metrics.requests.WithLabelValues("failed").Inc()
		err = fmt.Errorf("%w: schema id %d: %w", topic.ErrNotYet, k.id, err)
		m := r.missLocked(k)
		m.failed(now, err)
		m.since = now
		return nil, err
	case err != nil:
		r.metrics.requests.WithLabelValues("failed").Inc()
		r.trouble.Failed(err)
		for _, m := range r.missing { // nobody could say that it has come
			if !m.final {
				m.since = now
			}
		}
		err = fmt.Errorf("%w: the Schema Registry can't be used: %w", topic.ErrNotYet, err)
		r.outage.failed(now, err)
		return nil, err
	}
	r.metrics.requests.WithLabelValues("ok").Inc()
	r.trouble.Worked()
	r.outage = miss{}
	delete(r.missing, k)
	r.keepLocked(k, e)
	return e, nil
}

// recently returns why a schema is not to be asked for now, nil if it is.
func (r *Registry) recently(k key, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.missing[k]; m != nil && now.Before(m.next) {
		return m.err
	}
	if now.Before(r.outage.next) {
		return r.outage.err
	}
	return nil
}

// failed notes a question in vain.
func (m *miss) failed(now time.Time, err error) {
	if m.failures++; m.failures == 1 {
		m.since = now
	}
	m.err, m.next = err, now.Add(min(retryMost, retryFirst<<min(m.failures-1, 10)))
}

// unknownLocked returns what it means that the registry does not know an id: why, or
// ErrNotYet. If an id was given up within the last minute, others are not waited for: records
// of no meaning hold up the partition once, not each of them.
func (r *Registry) unknownLocked(k key, now time.Time, why error) error {
	r.trouble.Worked() // it answered
	r.outage = miss{}
	m := r.missLocked(k)
	m.failed(now, fmt.Errorf("%w: %w; waiting for up to %s", topic.ErrNotYet, why, r.cfg.Grace))
	switch {
	case m.final:
	case now.Sub(m.since) >= r.cfg.Grace:
		m.final, r.gaveUp = true, now
	case now.Sub(r.gaveUp) < askUnknown:
		m.final = true
	}
	if m.final {
		m.err, m.next = why, now.Add(askUnknown)
		if now.Sub(m.since) < r.cfg.Grace { // others were given up, this one may be new
			m.next = now.Add(retryMost)
		}
	}
	return m.err
}

// missLocked returns the miss of an id. There are maxMissing of them at most.
func (r *Registry) missLocked(k key) *miss {
	m := r.missing[k]
	if m == nil {
		if len(r.missing) >= maxMissing {
			for other := range r.missing {
				delete(r.missing, other)
				break
			}
		}
		m = new(miss)
		r.missing[k] = m
	}
	return m
}

// keepLocked adds a schema. If there are too many, the one that was used least lately goes.
func (r *Registry) keepLocked(k key, e *entry) {
	next := maps.Clone(*r.known.Load())
	if next == nil {
		next = make(map[key]*entry)
	}
	if len(next) >= maxSchemas {
		oldest, least := key{}, int64(0)
		for k, e := range next {
			if used := e.used.Load(); oldest == (key{}) || used < least {
				oldest, least = k, used
			}
		}
		delete(next, oldest)
	}
	e.used.Store(r.clock.Add(1))
	next[k] = e
	r.known.Store(&next)
}
