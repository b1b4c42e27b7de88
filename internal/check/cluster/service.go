package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Service is one process and the network around it.
type Service struct {
	*Process
	Kafka    *Proxy // between it and Kafka; nil if others may use the Kafka
	Redis    *Proxy // between it and Redis, or between all and a node of the cluster; nil in one process
	Postgres *Proxy // between it and PostgreSQL; nil in one process
	Clients  *Proxy // between clients and it; nil if it has none
	Shard    int    // of a filter service
}

// spareHomes is how many filter services can be added.
const spareHomes = 4

// address returns where a new service is to listen. A filter service takes one
// of the addresses that gateways know.
func (c *Cluster) address(kind string) (string, error) {
	if kind != "filter" {
		return FreeAddr()
	}
	for _, home := range c.homes {
		if !slices.ContainsFunc(c.Filters(), func(s *Service) bool { return s.Addr == home }) {
			return home, nil
		}
	}
	return "", fmt.Errorf("no more than %d filter services are possible", len(c.homes))
}

// service starts a service behind proxies of its own, and waits until it is ready.
func (c *Cluster) service(ctx context.Context, kind string, shard int) (*Service, error) {
	s := &Service{Shard: shard}
	addr, err := c.address(kind)
	if err != nil {
		return nil, err
	}
	redis, err := c.redisFor(s)
	if err != nil {
		return nil, err
	}
	if s.Postgres, err = c.proxy(c.database.server()); err != nil {
		return nil, err
	}
	kafka := c.kafka
	if c.broker != nil && !c.cfg.Direct {
		if s.Kafka, err = c.door(); err != nil {
			return nil, err
		}
		kafka = []string{s.Kafka.Addr()}
	}
	env := []string{
		"EVENTSTREAM_KAFKA=" + strings.Join(kafka, ","),
		"EVENTSTREAM_REDIS=" + redis,
		"EVENTSTREAM_POSTGRES=" + c.database.through(s.Postgres.Addr()),
		"EVENTSTREAM_FILTER_URL=http://" + strings.Join(c.homes, ",http://"),
	}
	if kind == "gateway" {
		if s.Clients, err = c.proxy(addr); err != nil {
			return nil, err
		}
	}
	admin := ""
	if c.cfg.Direct {
		if admin, err = FreeAddr(); err != nil {
			return nil, err
		}
		env = append(env, "EVENTSTREAM_ADMIN="+admin)
	}
	c.mu.Lock()
	c.started++
	name := fmt.Sprintf("%s-%d", kind, c.started)
	if kind == "filter" && c.cfg.Shards > 1 {
		name += fmt.Sprintf("-shard-%d", shard)
	}
	c.mu.Unlock()
	s.Process = c.process(name, addr, append([]string{kind, "--listen", addr}, c.flags(kind, shard)...), slices.Concat(env, c.access, c.cfg.Env))
	s.Admin = admin
	if kind == "gateway" && c.cfg.Processes > 1 {
		if s.pages, err = FreeAddr(); err != nil {
			return nil, err
		}
		s.args = append(s.args, "--processes", strconv.Itoa(c.cfg.Processes), "--pages", s.pages)
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// redisFor returns where a service finds Redis, through Proxies.
func (c *Cluster) redisFor(s *Service) (addrs string, err error) {
	if c.cfg.RedisCluster {
		s.Redis = c.fronts[rand.IntN(len(c.fronts))]
		return c.nodes(), nil
	}
	if s.Redis, err = c.proxy(c.redis[0].Addr); err != nil {
		return "", err
	}
	return s.Redis.Addr(), nil
}

// nodes returns the addresses that the nodes of the Redis Cluster tell of.
func (c *Cluster) nodes() string {
	var all []string
	for _, p := range c.fronts {
		all = append(all, p.Addr())
	}
	return strings.Join(all, ",")
}

func (c *Cluster) flags(kind string, shard int) (flags []string) {
	switch kind {
	case "gateway":
		flags = []string{"--drain", "3s"}
		if c.cfg.ResumeWindow > 0 {
			flags = append(flags, "--resume-window", c.cfg.ResumeWindow.String())
		}
	case "filter":
		flags = []string{"--shard", fmt.Sprintf("%d/%d", shard, c.cfg.Shards)}
		if c.cfg.Retention > 0 {
			flags = append(flags, "--lane-retention", c.cfg.Retention.String())
		}
	}
	return flags
}

func (c *Cluster) process(name, addr string, args, env []string) *Process {
	common := []string{
		"EVENTSTREAM_TOPIC=" + c.topic,
		"EVENTSTREAM_GROUP=" + c.topic,
		fmt.Sprintf("EVENTSTREAM_TOPIC_PARTITIONS=%d", c.cfg.Partitions),
		"EVENTSTREAM_LOG_FORMAT=text",
		"NO_COLOR=1",
	}
	return &Process{
		Name: name, Addr: addr, exe: c.cfg.Exe, args: args,
		env: slices.Concat(inherited(), common, env),
		log: filepath.Join(c.cfg.Dir, name+".log"),
	}
}

// inherited is our environment without what would set up the services.
func inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "EVENTSTREAM_") && !strings.HasPrefix(v, "EVENTSTREAM_DEFECT=")
	})
}
