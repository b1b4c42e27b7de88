package cluster

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Join starts a second broker beside k, with k as its controller, and returns when it
// takes part. It holds nothing but what topics put there: what the groups need stays
// with k, so that the second one can go away.
func (k *Kafka) Join(ctx context.Context, files KafkaFiles, dir string) (*Kafka, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of kafka: %w", err)
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	first, err := os.ReadFile(k.properties)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	err = k.await(ctx, func() error { // makes the topic of the groups where there is one broker yet
		return adm.FindGroupCoordinators(ctx, "any").Error()
	})
	if err != nil {
		return nil, err
	}
	second := &Kafka{properties: filepath.Join(dir, "server.properties"), data: filepath.Join(dir, "data")}
	second.Process = Process{
		Name: "kafka2", Addr: addr, exe: files.Java, log: filepath.Join(dir, "log"),
		args: append(append([]string{}, k.args[:len(k.args)-1]...), second.properties),
	}
	text, err := joining(string(first), addr, second.data)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(second.properties, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("settings of kafka: %w", err)
	}
	format := append(append([]string{}, k.args[:len(k.args)-2]...), "kafka.tools.StorageTool", "format",
		"-t", "EventstreamChecksAAAAA", "-c", second.properties)
	if out, err := exec.CommandContext(ctx, files.Java, format...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format the storage of kafka: %w\n%s", err, out)
	}
	if err := second.Start(ctx); err != nil {
		second.Kill()
		return nil, err
	}
	return second, second.await(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		brokers, err := adm.ListBrokers(ctx)
		if err == nil && len(brokers) < 2 {
			err = fmt.Errorf("%d brokers", len(brokers))
		}
		return err
	})
}

// joining makes of the first broker's settings those of one that is no controller. A door
// of the first leads to the second by its own name, with nothing in between: who comes
// through one has to find all brokers.
func joining(first, addr, data string) (string, error) {
	var out []string
	listeners := "PLAINTEXT://" + addr
	for line := range strings.Lines(first) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "advertised.listeners":
			for _, l := range strings.Split(value, ",")[1:] {
				door, _, _ := strings.Cut(l, ":")
				free, err := FreeAddr()
				if err != nil {
					return "", err
				}
				listeners += "," + door + "://" + free
			}
		case "process.roles", "node.id", "listeners", "log.dirs":
		default:
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(append(out,
		"process.roles=broker",
		"node.id=2",
		"listeners="+listeners,
		"advertised.listeners="+listeners,
		"log.dirs="+data,
	), "\n"), nil
}

// Second returns a broker beside the one of our own. It runs, and holds nothing at first.
func (c *Cluster) Second(ctx context.Context) (_ *Kafka, err error) {
	if c.second != nil {
		return c.second, c.second.Start(ctx)
	}
	c.second, err = c.broker.Join(ctx, c.cfg.Broker, filepath.Join(c.cfg.Dir, "kafka2"))
	return c.second, err
}

// Place moves a partition to one broker alone: 1, or the Second.
func (c *Cluster) Place(ctx context.Context, partition, broker int32) error {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(c.kafka...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	return c.broker.await(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		topics, err := client.ListTopics(ctx, c.topic)
		if err != nil {
			return err
		}
		at := topics[c.topic].Partitions[partition]
		if at.Leader == broker && slices.Equal(at.Replicas, []int32{broker}) {
			return nil
		}
		var to kadm.AlterPartitionAssignmentsReq
		to.Assign(c.topic, partition, []int32{broker})
		answers, err := client.AlterPartitionAssignments(ctx, to)
		return cmp.Or(err, answers.Error(), fmt.Errorf("partition %d has leader %d, and is on %v", partition, at.Leader, at.Replicas))
	})
}
