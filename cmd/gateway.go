package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"eventstream/gateway"
	"eventstream/gateway/socket"
	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/origin"
)

var errGatewayFlags = errors.New("--max-conns and --ring-bytes must be at least 1, --read-bytes at least 1048576, --resume-window and --cut-off-after at least 1s, --drain more than 0, --drain-delay not negative")

var errGatewayLimits = errors.New("--max-conns-subscriber, --max-conns-address, --handshake-rate, --handshake-rate-subscriber and --message-rate must be at least 0, which is no limit; --handshake-rate-address, too, or -1")

var errGatewayUnadmitted = errors.New("--max-unadmitted must be at least 1")

var errGatewayHeaders = errors.New("--handshake-timeout must be 100ms to 1m, --max-header-bytes 8192 to 1048576")

// addressHandshakes is the default of --handshake-rate-address.
const addressHandshakes = 1000

// gatewayFlags configure a gateway.
type gatewayFlags struct {
	listen   listenFlags
	redis    redisFlags
	filters  filterURLFlags
	postgres postgresFlags
	tokens   tokenFlags

	MaxConns      int           `env:"MAX_CONNS" envDefault:"19000"`
	Ring          int           `env:"RING_BYTES" envDefault:"67108864"`
	Reads         int           `env:"READ_BYTES" envDefault:"16777216"`
	Origins       []string      `env:"ORIGINS"`
	Compress      bool          `env:"COMPRESS"`
	Resume        time.Duration `env:"RESUME_WINDOW" envDefault:"5m"`
	Drain         time.Duration `env:"DRAIN" envDefault:"10s"`
	Delay         time.Duration `env:"DRAIN_DELAY"`
	SkipMalformed bool          `env:"SKIP_MALFORMED"`
	CutOff        time.Duration `env:"CUT_OFF_AFTER" envDefault:"10s"`

	Processes     int    `env:"PROCESSES" envDefault:"1"`
	Pages         string `env:"PAGES"`
	Unadmitted    int    `env:"MAX_UNADMITTED" envDefault:"4096"`
	PerSubscriber int    `env:"MAX_CONNS_SUBSCRIBER" envDefault:"100"`
	PerAddress    int    `env:"MAX_CONNS_ADDRESS"`
	Handshakes    int    `env:"HANDSHAKE_RATE" envDefault:"5000"`
	OfAddress     int    `env:"HANDSHAKE_RATE_ADDRESS" envDefault:"-1"`
	OfSubscriber  int    `env:"HANDSHAKE_RATE_SUBSCRIBER" envDefault:"20"`
	Messages      int    `env:"MESSAGE_RATE" envDefault:"20"`

	HandshakeTimeout time.Duration `env:"HANDSHAKE_TIMEOUT" envDefault:"5s"`
	HeaderBytes      int           `env:"MAX_HEADER_BYTES" envDefault:"65536"`
}

func (f *gatewayFlags) add(fs *pflag.FlagSet) {
	f.listen.add(fs, "127.0.0.1:8003")
	f.redis.add(fs)
	f.filters.add(fs)
	f.postgres.add(fs)
	f.tokens.add(fs)
	fs.IntVar(&f.MaxConns, "max-conns", f.MaxConns, "open connections; more are answered 503")
	fs.IntVar(&f.Unadmitted, "max-unadmitted", f.Unadmitted, "open connections that are no WebSocket and no stream, or not yet; past that, and where descriptors don't suffice, those that wait longest for their client are closed")
	fs.IntVar(&f.redis.reads, "read-bytes", f.Reads, "how much is read of the lanes at a time, about: what a gateway that is behind holds beside the ring")
	fs.IntVar(&f.Ring, "ring-bytes", f.Ring, "memory for the latest events, from which clients that come back soon are served")
	fs.StringSliceVar(&f.Origins, "origins", f.Origins, "web origins whose pages may connect, such as https://app.example.org, or https://*.example.org for all below it; * for all")
	fs.BoolVar(&f.Compress, "compress", f.Compress, "compress what is sent to clients that ask for permessage-deflate; it takes CPU")
	fs.DurationVar(&f.Resume, "resume-window", f.Resume, "how long after its end a connection can be resumed from Redis; after that, from Kafka")
	fs.DurationVar(&f.Drain, "drain", f.Drain, "at SIGTERM: over what time connections are closed, evenly, and at least 100 a second")
	fs.BoolVar(&f.SkipMalformed, "skip-malformed", f.SkipMalformed, "take entries of the lanes that can't be read for trimmed: clients are sent away once, and get their events from Kafka, or are told of a gap; otherwise nobody is served until they are trimmed")
	fs.DurationVar(&f.CutOff, "cut-off-after", f.CutOff, "after so long without an answer of Redis clients are sent away slowly, to go on at other gateways")
	fs.DurationVar(&f.Delay, "drain-delay", f.Delay, "at SIGTERM, before that: how long /readyz is red while connections are still taken, for balancers that look now and then")
	fs.IntVar(&f.PerSubscriber, "max-conns-subscriber", f.PerSubscriber, "open connections of one subscriber; more are answered 429; 0 for no limit")
	fs.IntVar(&f.PerAddress, "max-conns-address", f.PerAddress, "open connections from one address; more are answered 429; 0 for no limit (behind a proxy it needs --trusted-proxies)")
	fs.IntVar(&f.Handshakes, "handshake-rate", f.Handshakes, "handshakes a second, of clients that may come in; more are answered 503; 0 for no limit")
	fs.IntVar(&f.OfAddress, "handshake-rate-address", f.OfAddress, fmt.Sprintf("handshakes a second from one address (IPv6: one /64) without a good token, and of all where none is asked for; more are answered 429; 0 for no limit; -1 is %d, a fifth of --handshake-rate's default, so that one address leaves room for others, and none for loopback, from which come local proxies and load tests. Many clients behind a proxy need --trusted-proxies", addressHandshakes))
	fs.IntVar(&f.OfSubscriber, "handshake-rate-subscriber", f.OfSubscriber, "handshakes a second of one subscriber, on average over ten; more are answered 429; 0 for no limit")
	fs.DurationVar(&f.HandshakeTimeout, "handshake-timeout", f.HandshakeTimeout, "time for a client to send its handshake; then it is cut off")
	fs.IntVar(&f.HeaderBytes, "max-header-bytes", f.HeaderBytes, "bytes of a handshake, its URL with token and cursor included; larger ones are answered 431")
	fs.IntVar(&f.Messages, "message-rate", f.Messages, "messages a second from one client, on average over ten; who sends more is closed with 4029; 0 for no limit")
	fs.IntVar(&f.Processes, "processes", f.Processes, "gateways that share the port, each a process with limits of its own; metrics of all, labelled by process, are on --pages alone, profiles on the ports from --admin on")
	fs.StringVar(&f.Pages, "pages", f.Pages, "address for /metrics, and /readyz with its reasons; where tokens are asked for they are not on --listen; none if empty")
	f.listen.addProxies(fs)
}

// check returns errors that the flags alone show.
func (f *gatewayFlags) check() error {
	switch {
	case f.MaxConns < 1 || f.Resume < time.Second || f.Ring < 1 || f.redis.reads < 1<<20 || f.Drain <= 0 || f.Delay < 0 || f.CutOff < time.Second:
		return usageError{errGatewayFlags}
	case min(f.PerSubscriber, f.PerAddress, f.Handshakes, f.OfSubscriber, f.Messages) < 0 || f.OfAddress < -1:
		return usageError{errGatewayLimits}
	case f.HandshakeTimeout < 100*time.Millisecond || f.HandshakeTimeout > time.Minute || f.HeaderBytes < 8<<10 || f.HeaderBytes > 1<<20:
		return usageError{errGatewayHeaders}
	case f.Unadmitted < 1:
		return usageError{errGatewayUnadmitted}
	}
	return nil
}

// config returns the gateway's configuration.
func (f *gatewayFlags) config() (cfg gateway.Config, err error) {
	cfg = gateway.Config{
		MaxConns: f.MaxConns, RingBytes: f.Ring, ResumeWindow: f.Resume, DrainDelay: f.Delay, Drain: f.Drain, CutOff: f.CutOff,
		SkipMalformed: f.SkipMalformed, Compress: f.Compress,
		MaxPerSubscriber: f.PerSubscriber, MaxPerAddress: f.PerAddress, MessageRate: f.Messages,
		HandshakeRate: f.Handshakes, HandshakeRateAddress: f.OfAddress, HandshakeRateSubscriber: f.OfSubscriber,
	}
	if f.OfAddress == -1 {
		cfg.HandshakeRateAddress, cfg.SpareLoopback = addressHandshakes, true
	}
	if cfg.Proxies, err = f.listen.proxies(); err != nil {
		return cfg, err
	}
	if cfg.Hosts, err = f.listen.hosts(); err != nil {
		return cfg, err
	}
	if cfg.Origins, err = origin.ParseOrigins(f.Origins); err != nil {
		return cfg, usageError{fmt.Errorf("--origins: %w", err)}
	}
	return cfg, nil
}

func (a *app) gatewayCommand() (*cobra.Command, error) {
	var f gatewayFlags
	if err := a.fromEnvAll(&f.listen, &f.redis, &f.filters, &f.postgres, &f.tokens, &f); err != nil {
		return nil, err
	}
	c := &cobra.Command{
		Use:   "gateway",
		Short: "Hold clients' WebSockets",
		Long: "Holds clients' WebSockets, and streams of server-sent events, and sends them their events.\n" +
			"Start several behind a load balancer.",
		Example: "  eventstream gateway --redis redis:6379\n" +
			"  websocat 'ws://127.0.0.1:8003/ws?subscriber_id=user_1'\n" +
			"  curl -N 'http://127.0.0.1:8003/sse?subscriber_id=user_1'\n" +
			"  eventstream gateway --listen :8003 --token-jwks https://login.example.org/jwks.json --token-audience events",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runGateway(c.Context(), &f) },
	}
	f.add(c.Flags())
	return c, nil
}

// runGateway runs one gateway, or several processes that share a port.
func (a *app) runGateway(ctx context.Context, f *gatewayFlags) error {
	f.listen.reloads = &a.reloads
	if err := f.check(); err != nil {
		return err
	}
	cfg, err := f.config()
	if err != nil {
		return err
	}
	lanes, err := f.redis.open(&a.reloads, a.log)
	if err != nil {
		return err
	}
	defer lanes.Close()
	replayer, err := f.filters.open(a.log)
	if err != nil {
		return err
	}
	acks, err := f.postgres.open() // the filter service and the API create the schema
	if err != nil {
		return err
	}
	defer acks.Close()
	verifier, issuer, err := f.tokens.open(a.log)
	if err != nil {
		return err
	}
	f.listen.guarded = verifier != nil
	a.reloads.add(func() error { return f.tokens.reload(verifier) })
	patience := f.Delay + f.Drain + 30*time.Second
	if err := checkProcesses(f.Processes, &f.listen); err != nil {
		return err
	}
	this, child := thisMember()
	if f.Processes > 1 && !child {
		return a.runProcesses(ctx, f.Processes, &f.listen, f.Pages, patience+10*time.Second)
	}
	s := gatewayService{
		shown: verifier == nil && !child, lanes: lanes, replayer: replayer, acks: acks,
		limits: ops.Limits{HeaderTimeout: f.HandshakeTimeout, MaxHeaderBytes: f.HeaderBytes},
	}
	if child {
		ctx, s.pages, err = this.begin(ctx, a, &f.listen)
		s.listen = this.listen(&f.listen, a.log)
	} else {
		s.listen, s.pages, err = a.openAlone(ctx, &f.listen, f.Pages)
	}
	if err != nil {
		return err
	}
	g := run.Group{Log: a.log, Patience: patience}
	g.Add("files", func(ctx context.Context) error { return a.reloads.run(ctx, a.log) })
	cfg.MaxConns, s.limits.MaxConns = fitDescriptors(f.MaxConns, f.Unadmitted, a.log)
	here := newProcess(&g, "gateway", a.version, a.log)
	if verifier != nil {
		cfg.Tokens, cfg.Revocations = verifier, acks
		g.Add("schema", newSchema(acks, f.postgres, a.log).run)
	}
	g.Add("owner", func(ctx context.Context) error { return sameOwner(ctx, acks, lanes.Topic) })
	s.checks = append(s.checks, addClock(&g, acks, here.reg, a.log))
	if issuer != nil {
		addIssuer(&g, here.reg, issuer)
		s.checks = append(s.checks, keysCheck(issuer, len(f.tokens.Keys) > 0 || f.tokens.Secret != ""))
	}
	s.cfg = cfg
	here.addGateway(s)
	if err := f.listen.addAdmin(ctx, &g, here.servers, a.log); err != nil {
		return err
	}
	return g.Run(ctx)
}

// openAlone opens the listeners of a gateway that does not share its port.
func (a *app) openAlone(ctx context.Context, l *listenFlags, pagesAddr string) (opener, net.Listener, error) {
	ln, err := l.open(ctx, socket.Listen, a.log)
	if err != nil {
		return nil, nil, err
	}
	pages, err := l.openPages(ctx, pagesAddr, a.log)
	if err != nil {
		return nil, nil, err
	}
	a.log.Info("gateway listens", "addr", ln.Addr().String())
	a.warnIfOpen(l)
	return opened(ln), pages, nil
}

func (a *app) warnIfOpen(l *listenFlags) {
	if !l.guarded {
		a.log.Warn(nobodyAsked, "insecure", l.Insecure)
	}
}
