package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// PrivateKafka is a Kafka of one broker that a test may kill. What it has
// acknowledged survives Kill and Restart.
type PrivateKafka struct {
	Addr string // stays the same over Restart

	process
	java, lib string
}

// KafkaServer starts a Kafka for this test, from what `make services` installed.
// Where that uses containers there is none, and the test is skipped.
func KafkaServer(t testing.TB) *PrivateKafka {
	t.Helper()
	k := &PrivateKafka{process: process{t: t, dir: t.TempDir()}, lib: filepath.Join(root(t), ".services", "kafka", "lib")}
	if _, err := os.Stat(k.lib); err != nil {
		t.Skipf("no Kafka without containers: %v", err)
	}
	if k.java = findJava(); k.java == "" {
		missing(t, "no java")
	}
	t.Cleanup(k.end)
	var err error
	for range 3 { // somebody may take the ports before Kafka does
		if err = k.configure(); err != nil {
			t.Fatal(err)
		}
		if err = k.start(); err == nil {
			return k
		}
		k.end()
	}
	t.Fatal(err)
	return nil
}

func findJava() string {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "java")
	}
	if path, err := exec.LookPath("java"); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/jvm/*/bin/java")
	if len(found) > 0 {
		return found[len(found)-1]
	}
	return ""
}

// Restart starts the broker again, on the same address and with the data that it
// has kept. One that still runs is stopped first.
func (k *PrivateKafka) Restart() {
	k.t.Helper()
	if k.running() {
		k.Stop()
	}
	if err := k.start(); err != nil {
		k.t.Fatal(err)
	}
}

// configure chooses ports and makes the broker's storage, as scripts/services/kafka.sh does.
func (k *PrivateKafka) configure() error {
	k.Addr = Addr(k.t)
	controller := Addr(k.t)
	text := strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + controller,
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listeners=PLAINTEXT://" + k.Addr + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + k.Addr,
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + filepath.Join(k.dir, "data"),
		"auto.create.topics.enable=false",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=1",
		"group.initial.rebalance.delay.ms=0",
	}, "\n")
	if err := os.WriteFile(k.properties(), []byte(text), 0o600); err != nil {
		return err
	}
	format := exec.Command(k.java, k.args("kafka.tools.StorageTool", "format", "--ignore-formatted",
		"-t", "EventstreamTestsAAAAAA", "-c", k.properties())...)
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage of Kafka: %w\n%s", err, out)
	}
	return nil
}

func (k *PrivateKafka) properties() string { return filepath.Join(k.dir, "server.properties") }

func (k *PrivateKafka) args(class ...string) []string {
	logging := filepath.Join(root(k.t), "scripts", "services", "kafka", "log4j2.xml")
	return append([]string{
		"-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=file:" + logging, "-cp", k.lib + "/*",
	}, class...)
}

// start returns when the broker answers.
func (k *PrivateKafka) start() error {
	if err := k.launch(k.java, k.args("kafka.Kafka", k.properties())...); err != nil {
		return err
	}
	if err := poll(2*time.Minute, k.ping); err != nil {
		return fmt.Errorf("start Kafka: %w; its log:\n%s", err, k.logged())
	}
	if !k.running() {
		return fmt.Errorf("kafka has ended; its log:\n%s", k.logged())
	}
	return nil
}

// ping fails while the broker starts. One that has ended needs no more asking,
// and start finds that out.
func (k *PrivateKafka) ping() error {
	if !k.running() {
		return nil
	}
	c, err := net.DialTimeout("tcp", k.Addr, time.Second)
	if err != nil {
		return err
	}
	c.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return client.Ping(ctx)
}
