package cmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"eventstream/api"
	"eventstream/filter/pipeline"
	"eventstream/gateway"
	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/origin"
	"eventstream/replay"
	"eventstream/topic"
)

// laneStore holds the lanes between filter service and gateways: Redis, or memory.
type laneStore interface {
	pipeline.Store
	gateway.Lanes
	api.Publisher
	api.Lanes
	inspected
	Ping(ctx context.Context) error
}

// process is what the services of one process share.
type process struct {
	group   *run.Group
	servers *ops.Servers
	reg     metrics
	log     *slog.Logger
}

func newProcess(g *run.Group, service, version string, log *slog.Logger) process {
	reg := newMetrics(service, version)
	return process{g, ops.NewServers(reg, log), reg, log}
}

// addAPI adds the filter API.
func (p process) addAPI(ln net.Listener, cfg api.Config, s api.Store, l laneStore, r api.Replays) {
	cfg.Checks = append(cfg.Checks, p.servers.Descriptors())
	srv := api.New(cfg, s, l, l, r, p.reg, p.log)
	p.group.Add("api", func(ctx context.Context) error { return srv.Run(ctx, p.servers.Sparing("api", ln)) })
}

// filterService holds the parts of a filter service.
type filterService struct {
	listen  net.Listener
	hosts   origin.Hosts
	cfg     pipeline.Config
	kafka   topic.Config
	secrets replay.Secrets // required for replays; none required if empty
	lanes   laneStore
	filters pipeline.Filters
	checks  []ops.Check // of /readyz, besides its own
}

// addFilter adds the filter service and its pages.
func (p process) addFilter(f filterService) error {
	consumer, err := topic.NewConsumer(f.kafka, p.reg, p.log)
	if err != nil {
		return usageError{err}
	}
	dead, err := topic.NewProducer(f.kafka, p.reg, p.log)
	if err != nil {
		return usageError{err}
	}
	svc := pipeline.New(f.cfg, f.lanes, f.filters, consumer, dead, p.reg, p.log)
	p.group.Add("filter", func(ctx context.Context) error {
		defer dead.Close()
		return svc.Run(ctx)
	})
	mux, door := http.NewServeMux(), http.NewServeMux()
	mux.Handle("POST "+replayPath, replay.Handler(func(ctx context.Context, r replay.Request, w *replay.Writer) error {
		ops.Admit(ctx) // svc.Replay limits their number itself
		return svc.Replay(ctx, r, w)
	}, f.secrets, p.log))
	mux.Handle("POST "+explainPath, replay.LiveHandler(svc.Explain, f.secrets, p.log))
	checks := append([]ops.Check{
		{Name: "filter", Do: svc.Ready}, {Name: "kafka", Do: consumer.Ping}, {Name: "lanes", Do: f.lanes.Ping},
		addInspector(p.group, "redis", "redis", f.lanes, p.reg, p.log), addSettings(p.group, consumer, p.log), p.servers.Descriptors(),
	}, f.checks...)
	ops.Handle(mux, p.reg, svc.Alive, checks...)
	door.Handle("/", openTo(f.hosts, mux))
	if len(f.secrets) > 0 {
		door.Handle(replayPath, origin.Sealed(mux)) // no origin rules: web pages do not know the secret
		door.Handle(explainPath, origin.Sealed(mux))
	}
	limits := ops.Limits{Body: func(r *http.Request) bool { return r.URL.Path == replayPath || r.URL.Path == explainPath }}
	p.group.Add("filter pages", func(ctx context.Context) error { return p.servers.Serve(ctx, "filter", f.listen, door, limits) })
	return nil
}

const (
	replayPath  = "/replay"
	explainPath = "/explain"
)

// openTo protects h, which has no authentication, from web pages: only our own host
// names and origins are accepted.
func openTo(hosts origin.Hosts, h http.Handler) http.Handler {
	return origin.Sealed(origin.Rules{Open: true, Hosts: hosts}.Handler(h))
}

// opener opens a listener, at once or when the service is ready. It returns nil
// if ctx ended before.
type opener func(ctx context.Context, ready func(context.Context) error) (net.Listener, error)

// opened returns an opener for a listener that is already open.
func opened(ln net.Listener) opener {
	return func(context.Context, func(context.Context) error) (net.Listener, error) { return ln, nil }
}

// gatewayService holds the parts of a gateway.
type gatewayService struct {
	listen   opener
	pages    net.Listener // for metrics and health; may be nil
	shown    bool         // the clients' listener also serves metrics
	limits   ops.Limits
	cfg      gateway.Config
	lanes    laneStore
	replayer gateway.Replayer
	acks     gateway.Acks
	checks   []ops.Check // of /readyz, besides its own
}

// addGateway adds a gateway and its pages.
func (p process) addGateway(s gatewayService) {
	gw := gateway.New(s.cfg, s.lanes, s.replayer, s.acks, p.reg, p.log)
	p.group.Add("gateway", gw.Run)
	checks := append([]ops.Check{
		{Name: "gateway", Do: gw.Ready, Local: true}, {Name: "lanes", Do: s.lanes.Ping},
		addInspector(p.group, "redis", "redis", s.lanes, p.reg, p.log), p.servers.Descriptors(),
	}, s.checks...)
	var listening atomic.Bool // with --processes, set later: once the gateway is ready
	checks = append(checks, ops.Check{Name: "listener", Local: true, Do: func(context.Context) error {
		if !listening.Load() {
			return errors.New("clients can't connect yet")
		}
		return nil
	}})
	others := "/health, /livez, /readyz, /metrics"
	door, mux := http.NewServeMux(), http.NewServeMux()
	if s.shown {
		ops.Handle(mux, p.reg, gw.Alive, checks...)
	} else {
		ops.HandleStrangers(mux, gw.Alive, checks...)
		others = "/health, /livez, /readyz"
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "there is /ws for WebSockets, /sse for server-sent events, and "+others, http.StatusNotFound)
	})
	door.Handle("/ws", gw.Handler()) // checks hosts and origins itself
	door.Handle("/sse", gw.StreamHandler())
	door.Handle("/", origin.Rules{Open: s.cfg.Tokens == nil, Hosts: s.cfg.Hosts}.Handler(mux))
	p.group.Add("gateway pages", func(ctx context.Context) error {
		ln, err := s.listen(ctx, gw.Ready)
		if ln == nil {
			return err
		}
		listening.Store(true)
		return p.servers.Serve(ctx, "gateway", ln, origin.Sealed(door), s.limits)
	})
	if s.pages != nil {
		inside := http.NewServeMux()
		ops.Handle(inside, p.reg, gw.Alive, checks...)
		p.group.Add("pages", func(ctx context.Context) error {
			return p.servers.Serve(ctx, "pages", s.pages, openTo(s.cfg.Hosts, inside), ops.Limits{})
		})
	}
}

// listenFlags configure a service's listeners.
type listenFlags struct {
	Listen   string `env:"LISTEN"`
	Insecure bool   `env:"INSECURE"`
	Admin    string `env:"ADMIN"`

	Hosts []string `env:"HOSTS"`

	TrustedProxies []string `env:"TRUSTED_PROXIES"`

	TLSCert string `env:"TLS_CERT"`
	TLSKey  string `env:"TLS_KEY"`

	reloads *reloads // nil: certificates are not reread at SIGHUP

	guarded bool // clients are authenticated
}

func (l *listenFlags) add(fs *pflag.FlagSet, addr string) {
	if l.Listen == "" {
		l.Listen = addr
	}
	fs.StringVar(&l.Listen, "listen", l.Listen, "address to listen on, host:port")
	fs.BoolVar(&l.Insecure, "insecure", l.Insecure, "allow addresses other than loopback although nobody is asked who they are")
	fs.StringSliceVar(&l.Hosts, "hosts", l.Hosts, hostsUsage)
	fs.StringVar(&l.TLSCert, "tls-cert", l.TLSCert, "file with a certificate and its chain, PEM: speak TLS; read again when it changes")
	fs.StringVar(&l.TLSKey, "tls-key", l.TLSKey, "file with the certificate's key, PEM")
	fs.StringVar(&l.Admin, "admin", l.Admin, "loopback address for profiles (/debug/pprof); none if empty")
}

const hostsUsage = "names of the service, separated by commas, for where no token and no key is needed; localhost and addresses are always allowed; *.example.org for all below it"

func (l *listenFlags) hosts() (origin.Hosts, error) { return parseHosts(l.Hosts) }

func parseHosts(list []string) (origin.Hosts, error) {
	h, err := origin.ParseHosts(list)
	if err != nil {
		return nil, usageError{fmt.Errorf("--hosts: %w", err)}
	}
	return h, nil
}

// encrypt adds TLS to a listener if a certificate is configured.
func (l *listenFlags) encrypt(ln net.Listener, log *slog.Logger) (net.Listener, error) {
	if l.TLSCert == "" && l.TLSKey == "" {
		return ln, nil
	}
	cert, err := ops.LoadCertificate(l.TLSCert, l.TLSKey, log)
	if err != nil {
		ln.Close()
		return nil, usageError{fmt.Errorf("--tls-cert, --tls-key: %w", err)}
	}
	if l.reloads != nil {
		l.reloads.add(cert.Reload)
	}
	return tls.NewListener(ln, cert.Config()), nil
}

// addProxies adds --trusted-proxies, for services that use clients' addresses.
func (l *listenFlags) addProxies(fs *pflag.FlagSet) {
	fs.StringSliceVar(&l.TrustedProxies, "trusted-proxies", l.TrustedProxies, "addresses or networks of proxies whose X-Forwarded-For tells a client's address, separated by commas")
}

func (l *listenFlags) proxies() (ops.Proxies, error) {
	p, err := ops.ParseProxies(l.TrustedProxies)
	if err != nil {
		return nil, usageError{fmt.Errorf("--trusted-proxies: %w", err)}
	}
	return p, nil
}

// open opens the listener. It refuses to expose a service without authentication.
func (l *listenFlags) open(ctx context.Context, listen func(context.Context, string) (net.Listener, error), log *slog.Logger) (net.Listener, error) {
	if err := ops.CheckExposure(l.Listen, l.Insecure || l.guarded); err != nil {
		return nil, usageError{err}
	}
	ln, err := listen(ctx, l.Listen)
	if err != nil {
		return nil, ops.ExplainListen(l.Listen, err)
	}
	return l.encrypt(ln, log)
}

// openPages opens a listener for pages that only operators may see, if addr is set.
func (l *listenFlags) openPages(ctx context.Context, addr string, log *slog.Logger) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	if err := ops.CheckExposure(addr, l.Insecure); err != nil {
		return nil, usageError{fmt.Errorf("--pages: %w", err)}
	}
	ln, err := plainListen(ctx, addr)
	if err != nil {
		return nil, ops.ExplainListen(addr, err)
	}
	return l.encrypt(ln, log)
}

func plainListen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// addAdmin adds the admin listener to g, if one is configured.
func (l *listenFlags) addAdmin(ctx context.Context, g *run.Group, servers *ops.Servers, log *slog.Logger) error {
	if l.Admin == "" {
		return nil
	}
	if err := ops.CheckExposure(l.Admin, false); err != nil {
		return usageError{err}
	}
	hosts, err := l.hosts()
	if err != nil {
		return err
	}
	ln, err := plainListen(ctx, l.Admin)
	if err != nil {
		return ops.ExplainListen(l.Admin, err)
	}
	runtime.SetMutexProfileFraction(100) // samples 1 of 100 contention events
	runtime.SetBlockProfileRate(int(time.Millisecond))
	if ln, err = l.encrypt(ln, log); err != nil {
		return err
	}
	g.Add("admin", func(ctx context.Context) error {
		return servers.Serve(ctx, "admin", ln, openTo(hosts, ops.Admin()), ops.AdminLimits)
	})
	return nil
}
