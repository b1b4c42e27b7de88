package testenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/internal/check/cluster"
)

// PrivateKafka is a Kafka of one broker that a test may kill. What it has
// acknowledged survives Kill and Restart.
type PrivateKafka struct {
	Addr string // stays the same over Restart

	t     testing.TB
	dir   string
	kafka *cluster.Kafka
	files cluster.KafkaFiles
}

// Second starts another broker beside k. A partition that is placed there alone has no
// leader while it does not run.
func (k *PrivateKafka) Second() *PrivateKafka {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), startLimit)
	defer cancel()
	dir := k.t.TempDir()
	second, err := k.kafka.Join(ctx, k.files, dir)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(second.Kill)
	return &PrivateKafka{Addr: second.Addr, t: k.t, dir: dir, kafka: second, files: k.files}
}

// KafkaServer starts a Kafka for this test, from what `make services` installed.
// Where that uses containers there is none, and the test is skipped.
func KafkaServer(t testing.TB) *PrivateKafka {
	t.Helper()
	return startKafka(t, func(ctx context.Context, files cluster.KafkaFiles, dir string) (*cluster.Kafka, error) {
		return cluster.StartKafka(ctx, files, dir, nil)
	})
}

func startKafka(t testing.TB, start func(context.Context, cluster.KafkaFiles, string) (*cluster.Kafka, error)) *PrivateKafka {
	t.Helper()
	files, err := cluster.FindKafka(filepath.Join(root(t), ".services"))
	if err != nil {
		t.Skip(err)
	}
	for range 3 { // somebody may take the ports before Kafka does
		ctx, cancel := context.WithTimeout(t.Context(), startLimit)
		dir := t.TempDir()
		k, started := start(ctx, files, dir)
		cancel()
		if err = started; err == nil {
			t.Cleanup(k.Kill)
			return &PrivateKafka{Addr: k.Addr, t: t, dir: dir, kafka: k, files: files}
		}
	}
	t.Fatal(err)
	return nil
}

const startLimit = 2 * time.Minute

// Place makes a topic, each partition of which is on one broker alone: 1, or the Second.
func (k *PrivateKafka) Place(name string, brokers ...int32) {
	t := k.t
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	of := kmsg.NewCreateTopicsRequestTopic()
	of.Topic, of.NumPartitions, of.ReplicationFactor = name, -1, -1
	for p, b := range brokers {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(p), []int32{b}
		of.ReplicaAssignment = append(of.ReplicaAssignment, a)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, of)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Kill ends the broker as a crash would.
func (k *PrivateKafka) Kill() { k.kafka.Kill() }

// Restart starts the broker again, on the same address and with the data that it
// has kept. One that still runs is stopped first.
func (k *PrivateKafka) Restart() {
	k.t.Helper()
	if err := k.kafka.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(k.t.Context(), startLimit)
	defer cancel()
	if err := k.kafka.Start(ctx); err != nil {
		k.t.Fatal(err)
	}
}

// Save keeps a copy of what the broker holds, and returns what puts it back, as when a
// disk is restored: what was written since is lost. The broker restarts for each.
func (k *PrivateKafka) Save() (restore func()) {
	k.t.Helper()
	data, saved := filepath.Join(k.dir, "data"), filepath.Join(k.t.TempDir(), "data")
	must := func(err error) {
		k.t.Helper()
		if err != nil {
			k.t.Fatal(err)
		}
	}
	must(k.kafka.Stop())
	must(os.CopyFS(saved, os.DirFS(data)))
	k.Restart()
	return func() {
		k.t.Helper()
		k.Kill()
		must(os.RemoveAll(data))
		must(os.CopyFS(data, os.DirFS(saved)))
		k.Restart()
	}
}
