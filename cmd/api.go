package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"eventstream/api"
	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/store"
)

func (a *app) apiCommand() (*cobra.Command, error) {
	var listen listenFlags
	var redis redisFlags
	var postgres postgresFlags
	var filter filterURLFlags
	var tokens tokenFlags
	var quotas quotaFlags
	own := struct {
		PerKey     int `env:"RATE_LIMIT" envDefault:"1000"`
		PerAddress int `env:"RATE_LIMIT_ADDRESS" envDefault:"-1"`

		Streams     int `env:"MAX_STREAMS" envDefault:"256"`
		StreamsEach int `env:"MAX_STREAMS_EACH" envDefault:"64"`
		Imports     int `env:"MAX_IMPORTS" envDefault:"2"`
		ImportsEach int `env:"MAX_IMPORTS_EACH" envDefault:"1"`
		LeastRate   int `env:"LEAST_RATE" envDefault:"1024"`

		ForgetAcks time.Duration `env:"FORGET_ACKS_AFTER"`
	}{}
	if err := a.fromEnvAll(&listen, &redis, &postgres, &filter, &tokens, &quotas, &own); err != nil {
		return nil, err
	}
	c := &cobra.Command{
		Use:   "api",
		Short: "Serve the filter API",
		Long: "Serves the filter API: subscribers' filters, kept in PostgreSQL. It makes the schema itself, unless --migrate=false.\n" +
			"It also streams the events of the past that a subscriber's filters match, which it asks\n" +
			"the filter services for.",
		Example: "  eventstream api --postgres postgres://user:secret@db/eventstream --redis redis:6379\n" +
			`  curl -d '{"subscriber_id":"user_1","event_types":["purchase"],"min_amount":100}' localhost:8001/filters` + "\n" +
			"  curl 'localhost:8001/subscribers/user_1/events?since=1h'",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			listen.reloads = &a.reloads
			if own.PerKey < 0 || own.PerAddress < -1 {
				return usageError{errors.New("--rate-limit must be at least 0, --rate-limit-address at least -1")}
			}
			if min(own.Streams, own.StreamsEach, own.Imports, own.ImportsEach, own.LeastRate) < 1 {
				return usageError{errors.New("--max-streams, --max-streams-each, --max-imports, --max-imports-each and --least-rate must be at least 1")}
			}
			if own.ForgetAcks != 0 && own.ForgetAcks < time.Hour {
				return usageError{errors.New("--forget-acks-after must be at least 1h, or 0 to forget nobody")}
			}
			if err := quotas.check(); err != nil {
				return err
			}
			proxies, err := listen.proxies()
			if err != nil {
				return err
			}
			hosts, err := listen.hosts()
			if err != nil {
				return err
			}
			replays, err := filter.open(a.log)
			if err != nil {
				return err
			}
			s, err := postgres.open()
			if err != nil {
				return err
			}
			defer s.Close()
			s.Limit(quotas.quota())
			tables := newSchema(s, postgres, a.log)
			lanes, err := redis.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			defer lanes.Close()
			signer, err := tokens.signer()
			if err != nil {
				return err
			}
			if err := guardAPI(ctx, &listen, s, tables); err != nil {
				return err
			}
			ln, err := listen.open(ctx, plainListen, a.log)
			if err != nil {
				return err
			}
			g := run.Group{Log: a.log}
			g.Add("files", func(ctx context.Context) error { return a.reloads.run(ctx, a.log) })
			here := newProcess(&g, "api", a.version, a.log)
			cfg := api.Config{Keys: s, RequireKey: listen.guarded, Hosts: hosts, Signer: signer, Mapping: a.config.source.Mapping()}
			cfg.Limits = api.LimitConfig{PerKey: own.PerKey, PerAddress: perAddress(own.PerAddress, listen.guarded), Redis: lanes, Proxies: proxies}
			cfg.MaxStreams, cfg.StreamsEach, cfg.MaxImports, cfg.ImportsEach = own.Streams, own.StreamsEach, own.Imports, own.ImportsEach
			cfg.LeastRate, cfg.Room = own.LeastRate, here.servers.Room("api", fitRoom(4096, own.Streams))
			cfg.Checks = append(cfg.Checks, tables.ready(), addClock(&g, s, here.reg, a.log))
			quotas.apply(&cfg)
			here.addAPI(ln, cfg, s, lanes, replays)
			migrated := make(chan struct{}) // closed when the schema is up to date
			g.Add("schema", func(ctx context.Context) error {
				if err := tables.run(ctx); err != nil || ctx.Err() != nil {
					return err
				}
				close(migrated)
				return countOld(ctx, s, a.log)
			})
			g.Add("owner", func(ctx context.Context) error { return sameOwner(ctx, s, lanes.Topic) })
			purge := newPurger(s, store.Purge{Deleted: 24 * time.Hour, Acks: own.ForgetAcks}, here.reg, a.log)
			g.Add("purge", func(ctx context.Context) error { return purge.run(ctx, migrated) })
			if err := listen.addAdmin(ctx, &g, here.servers, a.log); err != nil {
				return err
			}
			a.log.Info("filter API listens", "addr", ln.Addr().String())
			if !listen.guarded {
				a.log.Warn("no API key is needed until there is one; eventstream apikey create makes one", "insecure", listen.Insecure)
			}
			return g.Run(ctx)
		},
	}
	listen.add(c.Flags(), "127.0.0.1:8001")
	listen.addProxies(c.Flags())
	redis.add(c.Flags())
	postgres.add(c.Flags())
	filter.add(c.Flags())
	tokens.addKeys(c.Flags())
	quotas.add(c.Flags())
	c.Flags().IntVar(&own.PerKey, "rate-limit", own.PerKey, "requests a second with one API key, over all API processes; 0 for no limit")
	c.Flags().IntVar(&own.PerAddress, "rate-limit-address", own.PerAddress, "requests a second from one address without a good key; 0 for no limit, -1 for 20 where strangers can come, and else none")
	c.Flags().IntVar(&own.Streams, "max-streams", own.Streams, "streams of events and exports at once; more are answered 503")
	c.Flags().IntVar(&own.StreamsEach, "max-streams-each", own.StreamsEach, "of them for one API key, or one address where there are no keys; more are answered 429")
	c.Flags().IntVar(&own.Imports, "max-imports", own.Imports, "imports at once; more are answered 503")
	c.Flags().IntVar(&own.ImportsEach, "max-imports-each", own.ImportsEach, "of them for one API key, or one address where there are no keys; more are answered 429")
	c.Flags().IntVar(&own.LeastRate, "least-rate", own.LeastRate, "bytes a second that an import must come with over 30 s, and a stream must be read with over 2 min; slower ones are cut off")
	c.Flags().DurationVar(&own.ForgetAcks, "forget-acks-after", own.ForgetAcks, "forget durable subscribers who have acknowledged nothing for so long, such as 2160h; 0 to forget nobody")
	return c, nil
}

// perAddress returns the rate limit for requests without a key. By default it is 20
// where strangers can reach the API, and none on loopback or with --insecure.
func perAddress(asked int, guarded bool) int {
	switch {
	case asked >= 0:
		return asked
	case guarded:
		return 20
	}
	return 0
}

// guardAPI refuses to start an API that others can reach before a key exists.
func guardAPI(ctx context.Context, listen *listenFlags, s *store.Postgres, tables *schema) error {
	exposed := ops.CheckExposure(listen.Listen, listen.Insecure)
	if !errors.Is(exposed, ops.ErrExposed) {
		return nil // other errors are reported when it is opened
	}
	if err := tables.run(ctx); err != nil {
		return err
	}
	keys, err := s.APIKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return usageError{fmt.Errorf("%w, or make an API key: eventstream apikey create", exposed)}
	}
	listen.guarded = true
	return nil
}

// fromEnvAll calls fromEnv for each target.
func (a *app) fromEnvAll(targets ...any) error {
	for _, t := range targets {
		if err := a.fromEnv(t); err != nil {
			return err
		}
	}
	return nil
}
