package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/filter/pipeline"
	"eventstream/gateway"
	"eventstream/gateway/socket"
	"eventstream/internal/ops"
	"eventstream/internal/run"
	"eventstream/lane"
	"eventstream/producer"
	"eventstream/replay"
	"eventstream/store"
	"eventstream/topic"
)

// devFlags configure the pipeline in one process.
type devFlags struct {
	Host                        string
	API, Filter, Gateway, Kafka int // ports
	Rate                        float64
	Data                        string
	Insecure                    bool
	Hosts                       []string

	listenAPI, listenFilter, listenGateway net.Listener
}

func (a *app) devCommand() (*cobra.Command, error) {
	d := devFlags{}
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole pipeline in this process",
		Long: "Runs the whole pipeline in one process, with nothing installed and nothing configured: a\n" +
			"Kafka broker inside the process, lanes and filters in memory, and above these edges the\n" +
			"code that runs in production. A demo subscriber and a gentle producer show it at work.\n" +
			"Filters and lanes are gone when it ends; so are events, unless --data says where to keep them.",
		Example: "  eventstream dev\n  eventstream dev --rate 1000 --gateway-port 9003\n  eventstream dev --rate 0   # no synthetic events: bring your own with eventstream producer",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.dev(c.Context(), &d, c.OutOrStdout()) },
	}
	fs := c.Flags()
	fs.StringVar(&d.Host, "addr-host", "127.0.0.1", "address to listen on")
	fs.IntVar(&d.API, "api-port", 8001, "port of the filter API")
	fs.IntVar(&d.Filter, "filter-port", 8002, "port of the filter service's pages")
	fs.IntVar(&d.Gateway, "gateway-port", 8003, "port of the gateway")
	fs.IntVar(&d.Kafka, "kafka-port", 0, "port of the embedded Kafka; any free one if 0")
	fs.Float64Var(&d.Rate, "rate", 5, "synthetic events a second; 0 for none")
	fs.StringVar(&d.Data, "data", "", "folder for the embedded Kafka; a temporary one, removed at the end, if empty")
	fs.BoolVar(&d.Insecure, "insecure", false, "allow an address other than loopback although nobody is asked who they are")
	fs.StringSliceVar(&d.Hosts, "hosts", nil, hostsUsage)
	return c, nil
}

func (a *app) dev(ctx context.Context, d *devFlags, out io.Writer) error {
	if d.Rate < 0 {
		return usageError{fmt.Errorf("--rate %v: want 0 or more", d.Rate)}
	}
	hosts, err := parseHosts(d.Hosts)
	if err != nil {
		return err
	}
	var registry registryFlags
	if err := a.fromEnv(&registry); err != nil {
		return err
	}
	if err := registry.check(a.config); err != nil {
		return err
	}
	if err := d.listen(ctx); err != nil {
		return err
	}
	cleanup, err := d.openData()
	if err != nil {
		return err
	}
	defer cleanup()
	broker, err := topic.StartBroker(topic.EmbeddedConfig{
		Dir: d.Data, Host: d.Host, Port: d.Kafka, Topic: "events", Retention: time.Hour, RetentionBytes: 64 << 20,
	})
	if err != nil {
		return err
	}
	defer broker.Close()
	lanes, filters := lane.NewMemory(), &store.Memory{}
	var quotas quotaFlags
	if err := a.fromEnv(&quotas); err != nil {
		return err
	}
	filters.Limit(quotas.quota())
	if err := demoFilter(ctx, filters); err != nil {
		return err
	}
	g := run.Group{Log: a.log}
	kcfg := topic.Config{Brokers: []string{broker.Addr()}, Topic: "events"}
	if d.Rate > 0 {
		if err := a.addDemoProducer(&g, kcfg, d.Rate); err != nil {
			return err
		}
	}
	replays, err := replay.NewClient([]string{"http://" + d.listenFilter.Addr().String()}, nil, a.log)
	if err != nil {
		return err
	}
	// Each service has its own metrics, as in a process of its own.
	newProcess(&g, "api", a.version, a.log).addAPI(d.listenAPI, api.Config{Hosts: hosts, Mapping: a.config.source.Mapping()}, filters, lanes, replays)
	here := newProcess(&g, "filter", a.version, a.log)
	source, closed, err := registry.source(a.config, &a.reloads, here.reg, a.log)
	if err != nil {
		return err
	}
	defer closed()
	if err := here.addFilter(filterService{
		listen: d.listenFilter, hosts: hosts, kafka: kcfg, lanes: lanes, filters: filters,
		cfg: pipeline.Config{Source: source},
	}); err != nil {
		return err
	}
	newProcess(&g, "gateway", a.version, a.log).addGateway(gatewayService{
		listen: opened(d.listenGateway), shown: true, cfg: gateway.Config{Drain: time.Second, Hosts: hosts},
		lanes: lanes, replayer: replays, acks: filters,
	})
	g.Add("greeting", func(ctx context.Context) error { return d.greet(ctx, out, broker.Addr(), a.log) })
	return g.Run(ctx)
}

// listen opens all listeners first, to report a port in use at once.
func (d *devFlags) listen(ctx context.Context) error {
	for _, l := range []struct {
		ln   *net.Listener
		flag string
		port int
		open func(context.Context, string) (net.Listener, error)
	}{
		{&d.listenAPI, "--api-port", d.API, plainListen},
		{&d.listenFilter, "--filter-port", d.Filter, plainListen},
		{&d.listenGateway, "--gateway-port", d.Gateway, socket.Listen},
	} {
		addr := net.JoinHostPort(d.Host, strconv.Itoa(l.port))
		if err := ops.CheckExposure(addr, d.Insecure); err != nil {
			return usageError{err}
		}
		ln, err := l.open(ctx, addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use by another process: stop it, or choose another port with %s", addr, l.flag)
		}
		if err != nil {
			return usageError{err}
		}
		*l.ln = ln
	}
	return nil
}

// openData opens or creates the folder of the embedded Kafka.
func (d *devFlags) openData() (cleanup func(), err error) {
	if d.Data != "" {
		return func() {}, os.MkdirAll(d.Data, 0o700)
	}
	d.Data, err = os.MkdirTemp("", "eventstream-dev-")
	if err != nil {
		return nil, fmt.Errorf("folder for the embedded Kafka: %w", err)
	}
	return func() { os.RemoveAll(d.Data) }, nil
}

// demoSubscriber receives the larger purchases.
const demoSubscriber = "demo"

func demoFilter(ctx context.Context, s *store.Memory) error {
	amount := 50.0
	_, err := s.Create(ctx, filter.Spec{SubscriberID: demoSubscriber, EventTypes: []string{"purchase"}, MinAmount: &amount})
	return err
}

func (a *app) addDemoProducer(g *run.Group, kcfg topic.Config, rate float64) error {
	p, err := topic.NewProducer(kcfg, nil, a.log)
	if err != nil {
		return err
	}
	g.Add("producer", func(ctx context.Context) error {
		defer p.Close()
		_, err := producer.Run(ctx, producer.Config{Rate: rate}, producer.NewGenerator(rand.Uint64(), 1000), p, a.log)
		return err
	})
	return nil
}

// greet waits until all services are ready, and prints how to use them.
func (d *devFlags) greet(ctx context.Context, out io.Writer, kafka string, log *slog.Logger) error {
	for try := 1; ; try++ {
		err := checkHealth(ctx, "http://"+d.listenGateway.Addr().String()+"/readyz")
		if err == nil {
			break
		}
		if try%100 == 0 {
			log.Warn("not ready yet; waiting", "err", err)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return nil
		}
	}
	command := "eventstream"
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, string(filepath.Separator)+"go-build") {
		command = "go run ."
	}
	api, gw := d.listenAPI.Addr().String(), d.listenGateway.Addr().String()
	listen := command + " listen demo"
	if d.Gateway != 8003 || d.Host != "127.0.0.1" {
		listen = command + " listen --url ws://" + gw + "/ws demo"
	}
	fmt.Fprintf(out, `eventstream is running in this process. Ctrl-C stops it.

  filter API   http://%s
  filter       http://%s/metrics
  gateway      ws://%s/ws
  Kafka        %s, topic events

Watch the demo subscriber's events (purchases from 50 up):

  %s

The same with a common tool:

  npx -y wscat -c 'ws://%s/ws?subscriber_id=demo'

Give demo another filter, while you watch:

  curl -d '{"subscriber_id":"demo","event_types":["login"],"user_tiers":["premium"]}' http://%s/filters

Pull demo's events of the past, from Kafka:

  curl 'http://%s/subscribers/demo/events?since=1h'

`, api, d.listenFilter.Addr(), gw, kafka, listen, gw, api, api)
	return nil
}
