package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

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

// addressHandshakes is --handshake-rate-address unless it is given.
const addressHandshakes = 1000

func (a *app) gatewayCommand() (*cobra.Command, error) {
	var listen listenFlags
	var redis redisFlags
	var filters filterURLFlags
	var postgres postgresFlags
	var tokens tokenFlags
	own := struct {
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
	}{}
	if err := fromEnvAll(&listen, &redis, &filters, &postgres, &tokens, &own); err != nil {
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
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			listen.reloads = &a.reloads
			if own.MaxConns < 1 || own.Resume < time.Second || own.Ring < 1 || redis.reads < 1<<20 || own.Drain <= 0 || own.Delay < 0 || own.CutOff < time.Second {
				return usageError{errGatewayFlags}
			}
			if min(own.PerSubscriber, own.PerAddress, own.Handshakes, own.OfSubscriber, own.Messages) < 0 || own.OfAddress < -1 {
				return usageError{errGatewayLimits}
			}
			if own.HandshakeTimeout < 100*time.Millisecond || own.HandshakeTimeout > time.Minute || own.HeaderBytes < 8<<10 || own.HeaderBytes > 1<<20 {
				return usageError{errGatewayHeaders}
			}
			if own.Unadmitted < 1 {
				return usageError{errGatewayUnadmitted}
			}
			proxies, err := listen.proxies()
			if err != nil {
				return err
			}
			hosts, err := listen.hosts()
			if err != nil {
				return err
			}
			origins, err := origin.ParseOrigins(own.Origins)
			if err != nil {
				return usageError{fmt.Errorf("--origins: %w", err)}
			}
			lanes, err := redis.open(a.log)
			if err != nil {
				return err
			}
			defer lanes.Close()
			replayer, err := filters.open(a.log)
			if err != nil {
				return err
			}
			acks, err := postgres.open() // filter service and API make the schema
			if err != nil {
				return err
			}
			defer acks.Close()
			verifier, issuer, err := tokens.open(a.log)
			if err != nil {
				return err
			}
			listen.guarded = verifier != nil
			a.reloads.add(func() error { return tokens.reload(verifier) })
			patience := own.Delay + own.Drain + 30*time.Second
			if err := checkProcesses(own.Processes, &listen); err != nil {
				return err
			}
			this, child := thisMember()
			if own.Processes > 1 && !child {
				return a.runProcesses(ctx, own.Processes, &listen, own.Pages, patience+10*time.Second)
			}
			door, pages := opener(nil), net.Listener(nil)
			if child {
				ctx, pages, err = this.begin(ctx, a, &listen)
				door = this.listen(&listen, a.log)
			} else {
				door, pages, err = a.openAlone(ctx, &listen, own.Pages)
			}
			if err != nil {
				return err
			}
			g := run.Group{Log: a.log, Patience: patience}
			g.Add("files", func(ctx context.Context) error { return a.reloads.run(ctx, a.log) })
			conns, unadmitted := fitDescriptors(own.MaxConns, own.Unadmitted, a.log)
			cfg := gateway.Config{MaxConns: conns, RingBytes: own.Ring, Origins: origins, Hosts: hosts, ResumeWindow: own.Resume, DrainDelay: own.Delay, Drain: own.Drain, CutOff: own.CutOff, SkipMalformed: own.SkipMalformed}
			cfg.MaxPerSubscriber, cfg.MaxPerAddress, cfg.Proxies = own.PerSubscriber, own.PerAddress, proxies
			cfg.Compress = own.Compress
			cfg.HandshakeRate, cfg.MessageRate = own.Handshakes, own.Messages
			cfg.HandshakeRateAddress, cfg.HandshakeRateSubscriber = own.OfAddress, own.OfSubscriber
			if own.OfAddress == -1 {
				cfg.HandshakeRateAddress, cfg.SpareLoopback = addressHandshakes, true
			}
			reg := newRegistry(a.version)
			servers := ops.NewServers(reg, a.log)
			if verifier != nil {
				cfg.Tokens, cfg.Revocations = verifier, acks
				g.Add("schema", newSchema(acks, postgres, a.log).run)
			}
			g.Add("owner", func(ctx context.Context) error { return sameOwner(ctx, acks, lanes.Topic) })
			checks := []ops.Check{addClock(&g, acks, reg, a.log)}
			if issuer != nil {
				addIssuer(&g, reg, issuer)
				checks = append(checks, keysCheck(issuer, len(tokens.Keys) > 0 || tokens.Secret != ""))
			}
			limits := ops.Limits{HeaderTimeout: own.HandshakeTimeout, MaxHeaderBytes: own.HeaderBytes, MaxConns: unadmitted}
			addGateway(&g, servers, door, pages, verifier == nil && !child, limits, reg, cfg, lanes, replayer, acks, a.log, checks...)
			if err := listen.addAdmin(ctx, &g, servers, a.log); err != nil {
				return err
			}
			return g.Run(ctx)
		},
	}
	fs := c.Flags()
	listen.add(fs, "127.0.0.1:8003")
	redis.add(fs)
	filters.add(fs)
	postgres.add(fs)
	tokens.add(fs)
	fs.IntVar(&own.MaxConns, "max-conns", own.MaxConns, "open connections; more are answered 503")
	fs.IntVar(&own.Unadmitted, "max-unadmitted", own.Unadmitted, "open connections that are no WebSocket and no stream, or not yet; past that, and where descriptors don't suffice, those that wait longest for their client are closed")
	fs.IntVar(&redis.reads, "read-bytes", own.Reads, "how much is read of the lanes at a time, about: what a gateway that is behind holds beside the ring")
	fs.IntVar(&own.Ring, "ring-bytes", own.Ring, "memory for the latest events, from which clients that come back soon are served")
	fs.StringSliceVar(&own.Origins, "origins", own.Origins, "web origins whose pages may connect, such as https://app.example.org, or https://*.example.org for all below it; * for all")
	fs.BoolVar(&own.Compress, "compress", own.Compress, "compress what is sent to clients that ask for permessage-deflate; it takes CPU")
	fs.DurationVar(&own.Resume, "resume-window", own.Resume, "how long after its end a connection can be resumed from Redis; after that, from Kafka")
	fs.DurationVar(&own.Drain, "drain", own.Drain, "at SIGTERM: over what time connections are closed, evenly, and at least 100 a second")
	fs.BoolVar(&own.SkipMalformed, "skip-malformed", own.SkipMalformed, "take entries of the lanes that can't be read for trimmed: clients are sent away once, and get their events from Kafka, or are told of a gap; otherwise nobody is served until they are trimmed")
	fs.DurationVar(&own.CutOff, "cut-off-after", own.CutOff, "after so long without an answer of Redis clients are sent away slowly, to go on at other gateways")
	fs.DurationVar(&own.Delay, "drain-delay", own.Delay, "at SIGTERM, before that: how long /readyz is red while connections are still taken, for balancers that look now and then")
	fs.IntVar(&own.PerSubscriber, "max-conns-subscriber", own.PerSubscriber, "open connections of one subscriber; more are answered 429; 0 for no limit")
	fs.IntVar(&own.PerAddress, "max-conns-address", own.PerAddress, "open connections from one address; more are answered 429; 0 for no limit (behind a proxy it needs --trusted-proxies)")
	fs.IntVar(&own.Handshakes, "handshake-rate", own.Handshakes, "handshakes a second, of clients that may come in; more are answered 503; 0 for no limit")
	fs.IntVar(&own.OfAddress, "handshake-rate-address", own.OfAddress, fmt.Sprintf("handshakes a second from one address (IPv6: one /64) without a good token, and of all where none is asked for; more are answered 429; 0 for no limit; -1 is %d, a fifth of --handshake-rate's default, so that one address leaves room for others, and none for loopback, from which come local proxies and load tests. Many clients behind a proxy need --trusted-proxies", addressHandshakes))
	fs.IntVar(&own.OfSubscriber, "handshake-rate-subscriber", own.OfSubscriber, "handshakes a second of one subscriber, on average over ten; more are answered 429; 0 for no limit")
	fs.DurationVar(&own.HandshakeTimeout, "handshake-timeout", own.HandshakeTimeout, "time for a client to send its handshake; then it is cut off")
	fs.IntVar(&own.HeaderBytes, "max-header-bytes", own.HeaderBytes, "bytes of a handshake, its URL with token and cursor included; larger ones are answered 431")
	fs.IntVar(&own.Messages, "message-rate", own.Messages, "messages a second from one client, on average over ten; who sends more is closed with 4029; 0 for no limit")
	fs.IntVar(&own.Processes, "processes", own.Processes, "gateways that share the port, each a process with limits of its own; metrics of all, labelled by process, are on --pages alone, profiles on the ports from --admin on")
	fs.StringVar(&own.Pages, "pages", own.Pages, "address for /metrics, and /readyz with its reasons; where tokens are asked for they are not on --listen; none if empty")
	listen.addProxies(fs)
	return c, nil
}

// openAlone opens the listeners of a gateway that shares its port with nobody.
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
