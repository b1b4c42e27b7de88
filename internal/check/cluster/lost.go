package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cut, after Kill, has it lose the newest records of a partition: so many bytes of its
// log, and what is left of a batch. One that is not so long loses half.
func (k *Kafka) Cut(topic string, partition int32, most int64) error {
	logs, err := filepath.Glob(filepath.Join(k.data, fmt.Sprintf("%s-%d", topic, partition), "*.log"))
	if len(logs) == 0 {
		return fmt.Errorf("partition %d has no log: %w", partition, cmp.Or(err, os.ErrNotExist))
	}
	newest := logs[len(logs)-1]
	info, err := os.Stat(newest)
	if err != nil {
		return err
	}
	return os.Truncate(newest, info.Size()-min(most, info.Size()/2))
}

// Ends returns where the partitions end, once all have leaders.
func (c *Cluster) Ends(ctx context.Context) (map[int32]int64, error) {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(c.kafka...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends := make(map[int32]int64)
	err = c.broker.await(ctx, func() error {
		listed, err := client.ListEndOffsets(ctx, c.topic)
		if err = cmp.Or(err, listed.Error()); err != nil {
			return fmt.Errorf("where topic %s ends: %w", c.topic, err)
		}
		listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		return nil
	})
	return ends, err
}

// Loss is the offsets of a partition that Kafka gives a second time.
type Loss struct {
	Partition int32
	From, To  int64
}

// SkipLost runs our command that tells what Kafka has lost and, if it is to write, makes
// an end of it.
func (c *Cluster) SkipLost(ctx context.Context, write bool) (all []Loss, err error) {
	out, err := c.skipLost(ctx, write)
	for line := range strings.Lines(out) {
		var l Loss
		if n, _ := fmt.Sscanf(line, "partition %d ends at %d in Kafka, and was at %d", &l.Partition, &l.From, &l.To); n == 3 {
			all = append(all, l)
		}
	}
	return all, err
}

// CaughtUp waits until all partitions have lanes, and these are where they end. Nothing must
// be produced.
func (c *Cluster) CaughtUp(ctx context.Context) error {
	ends, err := c.Ends(ctx)
	if err != nil {
		return err
	}
	for {
		out, behind := c.skipLost(ctx, false)
		there := 0
		for line := range strings.Lines(out) {
			var p, end, at int64
			if n, _ := fmt.Sscanf(line, "partition %d ends at %d in Kafka, and its lane is at %d", &p, &end, &at); n == 3 && at == end {
				there++
			}
		}
		if there == len(ends) {
			return nil
		}
		behind = errors.Join(behind, fmt.Errorf("%d of %d are where Kafka ends:\n%s", there, len(ends), out))
		select {
		case <-ctx.Done():
			return fmt.Errorf("lanes do not catch up: %w", behind)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cluster) skipLost(ctx context.Context, write bool) (printed string, err error) {
	args := []string{"skip-lost"}
	if write {
		args = append(args, "--yes")
	}
	redis := c.redis[0].Addr
	if c.cfg.RedisCluster {
		redis = c.nodes()
	}
	p := c.process("skip-lost", "", args, []string{
		"EVENTSTREAM_KAFKA=" + strings.Join(c.kafka, ","), "EVENTSTREAM_REDIS=" + redis,
	})
	cmd := exec.CommandContext(ctx, p.exe, p.args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("skip-lost: %w: %s", err, out)
	}
	return string(out), nil
}

// KnowLoss waits until one filter service of each shard says that Kafka has lost records.
func KnowLoss(ctx context.Context, services []*Service) error {
	left := make(map[int]bool)
	for _, s := range services {
		left[s.Shard] = true
	}
	for {
		for _, s := range services {
			if err := s.state(ctx); err != nil && strings.Contains(err.Error(), "skip-lost") {
				delete(left, s.Shard)
			}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("no filter service says that Kafka has lost records")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
