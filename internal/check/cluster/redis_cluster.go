package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redisNodes is how many primaries a Redis Cluster of ours has. There are no replicas: a
// node that is killed is missed until it is started again.
const redisNodes = 3

// clusterSlots is how many slots the keys of a cluster fall into.
const clusterSlots = 16384

// startRedisCluster starts a cluster. Nodes tell the addresses of Proxies in front of
// them, so that each has one that all services come through.
func (c *Cluster) startRedisCluster(ctx context.Context) error {
	for i := range redisNodes {
		r, err := newRedis(c.cfg.Redis, filepath.Join(c.cfg.Dir, fmt.Sprint("redis", i)))
		if err != nil {
			return err
		}
		p, err := c.proxy(r.Addr)
		if err != nil {
			return err
		}
		if r.bus, err = FreeAddr(); err != nil {
			return err
		}
		_, told, _ := net.SplitHostPort(p.Addr())
		_, bus, _ := net.SplitHostPort(r.bus)
		r.Name = fmt.Sprint("redis-", i)
		r.args = append(r.args, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
			"--cluster-port", bus, "--cluster-announce-bus-port", bus, "--cluster-announce-port", told)
		c.redis, c.fronts = append(c.redis, r), append(c.fronts, p)
		if err := r.Start(ctx); err != nil {
			return err
		}
		for _, command := range []string{
			fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1),
			fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*clusterSlots/redisNodes, (i+1)*clusterSlots/redisNodes-1),
		} {
			if err := r.ask(command, "+OK"); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
		}
	}
	for _, r := range c.redis[1:] {
		host, port, _ := net.SplitHostPort(r.Addr)
		_, bus, _ := net.SplitHostPort(r.bus)
		if err := c.redis[0].ask(fmt.Sprintf("CLUSTER MEET %s %s %s", host, port, bus), "+OK"); err != nil {
			return fmt.Errorf("nodes of Redis meet: %w", err)
		}
	}
	for _, r := range c.redis {
		if err := r.await(ctx, r.complete); err != nil {
			return err
		}
	}
	return nil
}

// complete returns nil if the node finds that all are there.
func (r *Redis) complete() error {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "CLUSTER INFO\r\n")
	in := bufio.NewReader(c)
	size, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(size, "$")))
	if err != nil {
		return errors.New(strings.TrimSpace(size))
	}
	info := make([]byte, n)
	if _, err := io.ReadFull(in, info); err != nil {
		return err
	}
	if !strings.Contains(string(info), "cluster_state:ok") || !strings.Contains(string(info), fmt.Sprintf("cluster_slots_ok:%d", clusterSlots)) {
		return fmt.Errorf("the cluster is not complete: %s", info)
	}
	return nil
}
