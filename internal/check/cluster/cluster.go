// Package cluster runs our own program as separate processes, with everything
// between them and around them that a fault can be made of: proxies in front of
// the servers and the gateways, a Redis of its own, a database and a topic of
// its own. What it makes is gone after Close.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what a Cluster is made of.
type Config struct {
	Exe string // our program
	Dir string // for logs and data

	// Servers. If any of the three is missing, everything runs in one process of
	// our program, with the edges it has inside.
	Kafka    []string
	Postgres string // URL of a database whose user may make others
	Redis    string // redis-server

	Broker  KafkaFiles // of a Kafka of our own, which is used instead of those at Kafka; none if zero
	Server  string     // folder of PostgreSQL's programs, to run one of our own instead of that at Postgres; "" for none
	Secured bool       // that Kafka wants TLS and SASL of services, and has ACLs
	Clocks  bool       // the clocks of our processes can be stepped; see CanStep

	Name         string // of the topic, group and database; letters, digits and underscores
	RedisCluster bool   // Redis is a cluster of three
	Filters      int    // filter services of each shard
	Shards       int    // parts of the subscribers that filter services share; 1 if zero
	Gateways     int
	Processes    int // of each gateway, which share its port; 1 if zero
	Partitions   int
	ResumeWindow time.Duration // of gateways; theirs if zero
	Retention    time.Duration // of lanes; the filter services' if zero

	// Direct leaves the proxies out, for measurements, and has the services serve
	// their profiles. No fault of the network is possible then.
	Direct bool
	Env    []string // more of the services' settings, KEY=value
}

// Native tells whether there are separate processes on real servers.
func (c *Config) Native() bool { return len(c.Kafka) > 0 && c.Postgres != "" && c.Redis != "" }

// Cluster is the running processes. Its methods may be called at the same time;
// each of its parts is for one caller at a time.
type Cluster struct {
	cfg      Config
	redis    []*Redis  // one, or the nodes of a cluster; none in one process
	database *Database // nil in one process
	postgres *Postgres // that it is on; nil if others may use it
	broker   *Kafka    // nil if others may use the Kafka
	second   *Kafka    // beside it; nil if it never was
	kafka    []string
	access   []string // settings with which services come to Kafka, KEY=value
	topic    string

	mu       sync.Mutex
	proxies  []*Proxy
	fronts   []*Proxy // in front of the nodes of a Redis Cluster
	doors    []*Proxy // to the Kafka of our own, that no service uses
	started  int      // services, for their names
	homes    []string // where filter services can be, for gateways to find them
	api      *Service
	filters  []*Service
	gateways []*Service
}

// startLimit bounds how long anything takes to start.
const startLimit = 60 * time.Second

// Start starts everything and waits until it is ready. If it fails, nothing is
// left running.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg.Shards = cmp.Or(cfg.Shards, 1)
	c := &Cluster{cfg: cfg, topic: cfg.Name}
	ctx, cancel := context.WithTimeout(ctx, 2*startLimit)
	defer cancel()
	start := c.startDev
	if cfg.Native() {
		start = c.startNative
	}
	if err := start(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) startNative(ctx context.Context) error {
	c.kafka = c.cfg.Kafka
	var err error
	if c.cfg.Broker != (KafkaFiles{}) {
		for range c.cfg.Filters*c.cfg.Shards + c.cfg.Gateways + 1 + 2*spareHomes {
			listener, err := FreeAddr()
			if err != nil {
				return err
			}
			door, err := c.proxy(listener)
			if err != nil {
				return err
			}
			c.doors = append(c.doors, door)
		}
		var security *KafkaSecurity
		if c.cfg.Secured {
			if security, err = c.secure(); err != nil {
				return err
			}
		}
		if c.broker, err = StartKafka(ctx, c.cfg.Broker, filepath.Join(c.cfg.Dir, "kafka"), security, c.doors...); err != nil {
			return err
		}
		if security != nil {
			if err := c.grant(ctx, security.Users); err != nil {
				return fmt.Errorf("users and rights of kafka: %w", err)
			}
		}
		c.kafka = []string{c.broker.Addr}
	}
	at := c.cfg.Postgres
	if c.cfg.Server != "" {
		if c.postgres, err = StartPostgres(ctx, c.cfg.Server); err != nil {
			return err
		}
		at = c.postgres.URL
	}
	if c.database, err = newDatabase(ctx, at, c.cfg.Name); err != nil {
		return fmt.Errorf("database for the check: %w", err)
	}
	if err := c.startRedis(ctx); err != nil {
		return err
	}
	for range c.cfg.Filters*c.cfg.Shards + spareHomes {
		home, err := FreeAddr()
		if err != nil {
			return err
		}
		c.homes = append(c.homes, home)
	}
	if c.cfg.Filters+c.cfg.Gateways == 0 {
		return nil // only what is around them is wanted
	}
	if c.api, err = c.service(ctx, "api", 0); err != nil {
		return err
	}
	for i := range c.cfg.Filters * c.cfg.Shards {
		if err := c.AddFilter(ctx, i%c.cfg.Shards); err != nil {
			return err
		}
	}
	for range c.cfg.Gateways {
		if err := c.AddGateway(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startRedis(ctx context.Context) error {
	if c.cfg.RedisCluster {
		return c.startRedisCluster(ctx)
	}
	r, err := newRedis(c.cfg.Redis, filepath.Join(c.cfg.Dir, "redis"))
	if err != nil {
		return err
	}
	c.redis = []*Redis{r}
	return r.Start(ctx)
}

// startDev starts everything in one process.
func (c *Cluster) startDev(ctx context.Context) error {
	c.topic = "events"
	var addrs [4]string
	args := []string{"dev", "--rate", "0", "--data", filepath.Join(c.cfg.Dir, "kafka")}
	for i, flag := range []string{"--api-port", "--filter-port", "--gateway-port", "--kafka-port"} {
		addr, err := FreeAddr()
		if err != nil {
			return err
		}
		_, port, _ := strings.Cut(addr, ":")
		addrs[i] = addr
		args = append(args, flag, port)
	}
	c.kafka = addrs[3:]
	clients, err := c.proxy(addrs[2])
	if err != nil {
		return err
	}
	p := c.process("dev", addrs[2], args, append([]string{"EVENTSTREAM_KAFKA=" + strings.Join(c.kafka, ",")}, c.cfg.Env...))
	s := &Service{Process: p, Clients: clients}
	c.gateways = []*Service{s}
	c.api = &Service{Process: &Process{Name: "dev", Addr: addrs[0]}}
	if err := p.Start(); err != nil {
		return err
	}
	return p.Ready(ctx)
}

// door returns a way to Kafka for one service.
func (c *Cluster) door() (*Proxy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.doors) == 0 {
		return nil, errors.New("Kafka has no listener for one more service")
	}
	d := c.doors[0]
	c.doors = c.doors[1:]
	return d, nil
}

// proxy starts a Proxy in front of an address, unless nothing is to stand in between.
func (c *Cluster) proxy(upstream string) (*Proxy, error) {
	if c.cfg.Direct {
		return &Proxy{addr: upstream}, nil
	}
	p, err := NewProxy(upstream)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proxies = append(c.proxies, p)
	return p, nil
}

// AddFilter starts one more filter service of a shard.
func (c *Cluster) AddFilter(ctx context.Context, shard int) error {
	return c.add(ctx, "filter", shard, &c.filters)
}

// AddGateway starts one more gateway.
func (c *Cluster) AddGateway(ctx context.Context) error {
	return c.add(ctx, "gateway", 0, &c.gateways)
}

func (c *Cluster) add(ctx context.Context, kind string, shard int, list *[]*Service) error {
	s, err := c.service(ctx, kind, shard)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*list = append(*list, s)
	return nil
}

// AddPartitions gives the topic more partitions.
func (c *Cluster) AddPartitions(ctx context.Context, n int) error {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(c.kafka...))
	if err != nil {
		return err
	}
	defer client.Close()
	answers, err := client.CreatePartitions(ctx, n, c.topic)
	if err = cmp.Or(err, answers.Error()); err != nil {
		return fmt.Errorf("add partitions to topic %s: %w", c.topic, err)
	}
	return nil
}

// Remove stops a filter service or gateway for good, as an operator would.
func (c *Cluster) Remove(s *Service) error {
	c.mu.Lock()
	gone := func(other *Service) bool { return other == s }
	c.filters = slices.DeleteFunc(slices.Clone(c.filters), gone)
	c.gateways = slices.DeleteFunc(slices.Clone(c.gateways), gone)
	c.mu.Unlock()
	err := s.Stop()
	if s.Kafka != nil {
		c.mu.Lock()
		c.doors = append(c.doors, s.Kafka)
		c.mu.Unlock()
	}
	return err
}

// API returns the filter API, which is always the same.
func (c *Cluster) API() *Service { return c.api }

// Filters returns the filter services.
func (c *Cluster) Filters() []*Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.filters
}

// Gateways returns the gateways.
func (c *Cluster) Gateways() []*Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gateways
}

// Redis returns the Redis, or the nodes of the cluster; none if everything is in one process.
func (c *Cluster) Redis() []*Redis { return c.redis }

// Database returns the database, nil if everything is in one process.
func (c *Cluster) Database() *Database { return c.database }

// Postgres returns the server of our own that the database is on, nil if others may use it.
func (c *Cluster) Postgres() *Postgres { return c.postgres }

// Broker returns the Kafka of our own, nil if others may use the Kafka.
func (c *Cluster) Broker() *Kafka { return c.broker }

// Kafka returns the brokers and the topic.
func (c *Cluster) Kafka() (brokers []string, topic string) { return c.kafka, c.topic }

// Ready waits until every process is ready.
func (c *Cluster) Ready(ctx context.Context) error {
	for _, s := range c.all() {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Dump ends all services after they have written their goroutines to their logs.
func (c *Cluster) Dump() {
	var all sync.WaitGroup
	for _, s := range c.all() {
		all.Go(s.Dump)
	}
	all.Wait()
}

// all returns the services that have a process.
func (c *Cluster) all() []*Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Concat(c.filters, c.gateways)
	if c.api != nil && c.cfg.Native() {
		all = append(all, c.api)
	}
	return all
}

// closeLimit bounds how long the servers may take to take away what was made on them.
const closeLimit = 20 * time.Second

// Close ends all processes and takes away what was made on the servers.
func (c *Cluster) Close() error {
	for _, s := range c.all() {
		s.Kill()
	}
	c.mu.Lock()
	for _, p := range c.proxies {
		p.Close()
	}
	c.mu.Unlock()
	for _, r := range c.redis {
		r.Kill()
	}
	for _, k := range []*Kafka{c.broker, c.second} {
		if k != nil {
			k.Kill()
		}
	}
	if !c.cfg.Native() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	var err error
	if c.postgres != nil {
		err = c.postgres.Close()
	} else if c.database != nil {
		err = c.database.drop(ctx)
	}
	if c.broker == nil {
		err = cmp.Or(err, deleteTopics(ctx, c.kafka, c.topic, c.topic+".dlq"))
	}
	return err
}
