package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	text := joining(string(first), addr, filepath.Join(dir, "data"))
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

// joining makes of the first broker's settings those of one that is no controller.
func joining(first, addr, data string) string {
	var out []string
	for line := range strings.Lines(first) {
		switch key, _, _ := strings.Cut(line, "="); key {
		case "process.roles", "node.id", "listeners", "advertised.listeners", "listener.security.protocol.map", "log.dirs":
		default:
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(append(out,
		"process.roles=broker",
		"node.id=2",
		"listeners=PLAINTEXT://"+addr,
		"advertised.listeners=PLAINTEXT://"+addr,
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs="+data,
	), "\n")
}
