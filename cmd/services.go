package cmd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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

// laneStore is the store between filter service and gateways: Redis, or memory.
type laneStore interface {
	pipeline.Store
	gateway.Lanes
	api.Publisher
	api.Lanes
	inspected
	Ping(ctx context.Context) error
}

func newRegistry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	addProcessMetrics(reg, version)
	return reg
}

// addProcessMetrics adds what is the same in every process.
func addProcessMetrics(reg prometheus.Registerer, version string) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "eventstream_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// addAPI adds the filter API to g.
func addAPI(g *run.Group, servers *ops.Servers, ln net.Listener, reg *prometheus.Registry, cfg api.Config, s api.Store, l laneStore, r api.Replays, log *slog.Logger) {
	cfg.Checks = append(cfg.Checks, servers.Descriptors())
	srv := api.New(cfg, s, l, l, r, reg, log)
	g.Add("api", func(ctx context.Context) error { return srv.Run(ctx, servers.Sparing("api", ln)) })
}

// kafka is topic.Consumer with the topic made if it is missing.
type kafka struct {
	*topic.Consumer
	cfg topic.Config
	log *slog.Logger
}

func (k kafka) Name() string { return k.cfg.Topic }

func (k kafka) Ensure(ctx context.Context, make bool) (topic.Info, error) {
	cfg := k.cfg
	cfg.NoCreate = cfg.NoCreate || !make
	return topic.Ensure(ctx, cfg, k.log)
}

// addFilter adds the filter service and its pages to g.
func addFilter(g *run.Group, servers *ops.Servers, ln net.Listener, hosts origin.Hosts, reg *prometheus.Registry, cfg pipeline.Config, kcfg topic.Config, secrets replay.Secrets, l laneStore, f pipeline.Filters, log *slog.Logger, more ...ops.Check) error {
	consumer, err := topic.NewConsumer(kcfg, reg, log)
	if err != nil {
		return usageError{err}
	}
	dead, err := topic.NewProducer(kcfg, reg, log)
	if err != nil {
		return usageError{err}
	}
	svc := pipeline.New(cfg, l, f, kafka{consumer, kcfg, log}, dead, reg, log)
	g.Add("filter", func(ctx context.Context) error {
		defer dead.Close()
		return svc.Run(ctx)
	})
	mux, door := http.NewServeMux(), http.NewServeMux()
	mux.Handle("POST "+replayPath, replay.Handler(func(ctx context.Context, r replay.Request, w *replay.Writer) error {
		ops.Admit(ctx) // the service bounds how many there are
		return svc.Replay(ctx, r, w)
	}, secrets, log))
	mux.Handle("POST "+explainPath, replay.LiveHandler(svc.Explain, secrets, log))
	checks := append([]ops.Check{
		{Name: "filter", Do: svc.Ready}, {Name: "kafka", Do: consumer.Ping}, {Name: "lanes", Do: l.Ping},
		addInspector(g, "redis", "redis", l, reg, log), addSettings(g, consumer, log), servers.Descriptors(),
	}, more...)
	ops.Handle(mux, reg, svc.Alive, checks...)
	door.Handle("/", openTo(hosts, mux))
	if len(secrets) > 0 {
		door.Handle(replayPath, origin.Sealed(mux)) // who knows the secret is no web page
		door.Handle(explainPath, origin.Sealed(mux))
	}
	limits := ops.Limits{Body: func(r *http.Request) bool { return r.URL.Path == replayPath || r.URL.Path == explainPath }}
	g.Add("filter pages", func(ctx context.Context) error { return servers.Serve(ctx, "filter", ln, door, limits) })
	return nil
}

const (
	replayPath  = "/replay"
	explainPath = "/explain"
)

// openTo serves h, which asks nobody who they are, by our own names.
func openTo(hosts origin.Hosts, h http.Handler) http.Handler {
	return origin.Sealed(origin.Rules{Open: true, Hosts: hosts}.Handler(h))
}

// opener opens a listener, at once or when there is somebody to serve. It is nil
// if ctx ended before.
type opener func(ctx context.Context, ready func(context.Context) error) (net.Listener, error)

// opened is an opener of a listener that is open.
func opened(ln net.Listener) opener {
	return func(context.Context, func(context.Context) error) (net.Listener, error) { return ln, nil }
}

// addGateway adds a gateway and its pages to g. Metrics, and why it is not ready,
// are on pages, which may be nil; if they are shown, also where the clients come.
func addGateway(g *run.Group, servers *ops.Servers, listen opener, pages net.Listener, shown bool, limits ops.Limits, reg *prometheus.Registry, cfg gateway.Config, l laneStore, r gateway.Replayer, acks gateway.Acks, log *slog.Logger, more ...ops.Check) {
	gw := gateway.New(cfg, l, r, acks, reg, log)
	g.Add("gateway", gw.Run)
	checks := append([]ops.Check{
		{Name: "gateway", Do: gw.Ready, Local: true}, {Name: "lanes", Do: l.Ping},
		addInspector(g, "redis", "redis", l, reg, log), servers.Descriptors(),
	}, more...)
	others := "/health, /livez, /readyz, /metrics"
	door, mux := http.NewServeMux(), http.NewServeMux()
	if shown {
		ops.Handle(mux, reg, gw.Alive, checks...)
	} else {
		ops.HandleStrangers(mux, gw.Alive, checks...)
		others = "/health, /livez, /readyz"
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "there is /ws for WebSockets, /sse for server-sent events, and "+others, http.StatusNotFound)
	})
	door.Handle("/ws", gw.Handler()) // it looks at hosts and origins itself
	door.Handle("/sse", gw.StreamHandler())
	door.Handle("/", origin.Rules{Open: cfg.Tokens == nil, Hosts: cfg.Hosts}.Handler(mux))
	g.Add("gateway pages", func(ctx context.Context) error {
		ln, err := listen(ctx, gw.Ready)
		if ln == nil {
			return err
		}
		return servers.Serve(ctx, "gateway", ln, origin.Sealed(door), limits)
	})
	if pages != nil {
		inside := http.NewServeMux()
		ops.Handle(inside, reg, gw.Alive, checks...)
		g.Add("pages", func(ctx context.Context) error {
			return servers.Serve(ctx, "pages", pages, openTo(cfg.Hosts, inside), ops.Limits{})
		})
	}
}

// listenFlags say where a service listens.
type listenFlags struct {
	Listen   string `env:"LISTEN"`
	Insecure bool   `env:"INSECURE"`
	Admin    string `env:"ADMIN"`

	Hosts []string `env:"HOSTS"`

	TrustedProxies []string `env:"TRUSTED_PROXIES"`

	TLSCert string `env:"TLS_CERT"`
	TLSKey  string `env:"TLS_KEY"`

	reloads *reloads // nil if nothing is read again

	guarded bool // whoever comes is asked who they are
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

const hostsUsage = "names that the service goes by where nobody is asked who they are, beside localhost and addresses, separated by commas; *.example.org for all below it"

func (l *listenFlags) hosts() (origin.Hosts, error) { return parseHosts(l.Hosts) }

func parseHosts(list []string) (origin.Hosts, error) {
	h, err := origin.ParseHosts(list)
	if err != nil {
		return nil, usageError{fmt.Errorf("--hosts: %w", err)}
	}
	return h, nil
}

// encrypt has a listener speak TLS, if there is a certificate.
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

// addProxies adds the list of proxies, for services that look at clients' addresses.
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

// open opens the listener, unless strangers could reach it.
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

// openPages opens a listener for pages that only operators may see, if there is an
// address for them.
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

// addAdmin adds the admin listener to g, if one is asked for.
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
	runtime.SetMutexProfileFraction(100) // of contentions, one in so many
	runtime.SetBlockProfileRate(int(time.Millisecond))
	if ln, err = l.encrypt(ln, log); err != nil {
		return err
	}
	g.Add("admin", func(ctx context.Context) error {
		return servers.Serve(ctx, "admin", ln, openTo(hosts, ops.Admin()), ops.AdminLimits)
	})
	return nil
}
