package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaFiles tells with what a Kafka is run.
type KafkaFiles struct {
	Java string // program; "" if there is no Kafka
	Jars string // folder
}

// FindKafka looks for what `make services` has installed in dir. Where that uses
// containers there is none.
func FindKafka(dir string) (KafkaFiles, error) {
	f := KafkaFiles{Jars: filepath.Join(dir, "kafka", "lib")}
	if _, err := os.Stat(f.Jars); err != nil {
		return KafkaFiles{}, fmt.Errorf("no Kafka: %w", err)
	}
	candidates, _ := filepath.Glob("/usr/lib/jvm/*/bin/java")
	candidates = append([]string{"java"}, candidates...)
	if home := os.Getenv("JAVA_HOME"); home != "" {
		candidates = []string{filepath.Join(home, "bin", "java")}
	}
	for _, c := range candidates {
		var err error
		if f.Java, err = exec.LookPath(c); err == nil {
			return f, nil
		}
	}
	return KafkaFiles{}, errors.New("no Kafka: no java")
}

// Kafka is one broker of our own, over all its runs. What it has acknowledged
// survives Kill.
type Kafka struct {
	Process

	Secure string // where it wants TLS and SASL; "" if nowhere

	properties string // file
	data       string // folder
}

// StartKafka starts one that is empty, with its data and its log in dir. It returns
// when the broker answers. A client that connects through one of the doors is led
// through it always: a broker tells its address by the listener that it is asked at.
// With security the doors are secured or, if there are none, another listener, Secure.
func StartKafka(ctx context.Context, files KafkaFiles, dir string, security *KafkaSecurity, doors ...*Proxy) (*Kafka, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of kafka: %w", err)
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	controller, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	k := &Kafka{properties: filepath.Join(dir, "server.properties"), data: filepath.Join(dir, "data")}
	java := []string{"-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", files.Jars + "/*"}
	k.Process = Process{
		Name: "kafka", Addr: addr, exe: files.Java, log: filepath.Join(dir, "log"),
		args: append(java, "kafka.Kafka", k.properties),
	}
	if security != nil && len(doors) == 0 {
		if k.Secure, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	text := kafkaProperties(addr, controller, k.data, k.Secure, security, doors)
	if err := os.WriteFile(k.properties, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("settings of kafka: %w", err)
	}
	format := exec.CommandContext(ctx, files.Java, append(java, "kafka.tools.StorageTool", "format",
		"-t", "EventstreamChecksAAAAA", "-c", k.properties)...)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format the storage of kafka: %w\n%s", err, out)
	}
	if err := k.Start(ctx); err != nil {
		k.Kill()
		return nil, err
	}
	return k, nil
}

// kafkaProperties are those of one node, which nothing can be replicated to, and of
// which every internal topic has one partition, so that it starts fast.
func kafkaProperties(addr, controller, data, secure string, security *KafkaSecurity, doors []*Proxy) string {
	own, told, protocols := "PLAINTEXT://"+addr, "PLAINTEXT://"+addr, "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
	protocol := "PLAINTEXT"
	if security != nil {
		protocol = "SASL_SSL"
	}
	var names []string
	listen := func(name, at, as string) {
		own, told, protocols = own+","+name+"://"+at, told+","+name+"://"+as, protocols+","+name+":"+protocol
		names = append(names, name)
	}
	for i, d := range doors {
		listen(fmt.Sprintf("DOOR%d", i), d.upstream, d.addr)
	}
	if secure != "" {
		listen("SECURE", secure, secure)
	}
	more := ""
	if security != nil {
		more = security.settings(names)
	}
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + controller,
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listeners=" + own + ",CONTROLLER://" + controller,
		"advertised.listeners=" + told,
		"listener.security.protocol.map=" + protocols,
		"log.dirs=" + data,
		"num.network.threads=1", // for each listener
		"auto.create.topics.enable=false",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=1",
		"group.initial.rebalance.delay.ms=0",
		more,
	}, "\n")
}

// Start runs it with what it has kept, and waits until it answers.
func (k *Kafka) Start(ctx context.Context) error {
	if err := k.Process.Start(); err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return err
	}
	defer client.Close()
	return k.await(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return client.Ping(ctx)
	})
}

// Stop ends it as an operator would. Java's exit code does not tell whether all was well.
func (k *Kafka) Stop() error { return k.terminate() }
