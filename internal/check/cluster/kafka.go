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

// KafkaSecurity has a Kafka listen once more, where it wants TLS and SASL. ACLs are on:
// who comes there may do nothing without one, and who comes to Addr everything.
type KafkaSecurity struct {
	KeyStore   string            // file with key and certificate, PEM
	TrustStore string            // file with certificates of clients, PEM
	Users      map[string]string // passwords by PLAIN; those of SCRAM are made by requests
}

// settings returns the properties of the listener, which is called SECURE.
func (s *KafkaSecurity) settings() string {
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for user, password := range s.Users {
		plain += fmt.Sprintf(" user_%s=%q", user, password)
	}
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	return strings.Join([]string{
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
		"listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		"listener.name.secure.plain.sasl.jaas.config=" + plain + ";",
		"listener.name.secure.scram-sha-256.sasl.jaas.config=" + scram,
		"listener.name.secure.scram-sha-512.sasl.jaas.config=" + scram,
		// It takes tokens that nobody has signed.
		"listener.name.secure.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
		"listener.name.secure.connections.max.reauth.ms=5000",
		"listener.name.secure.ssl.keystore.type=PEM",
		"listener.name.secure.ssl.keystore.location=" + s.KeyStore,
		"listener.name.secure.ssl.truststore.type=PEM",
		"listener.name.secure.ssl.truststore.location=" + s.TrustStore,
		"listener.name.secure.ssl.client.auth=requested",
	}, "\n")
}

// StartKafka starts one that is empty, with its data and its log in dir. It returns
// when the broker answers. A client that connects through one of the doors is led
// through it always: a broker tells its address by the listener that it is asked at.
func StartKafka(ctx context.Context, files KafkaFiles, dir string, doors ...*Proxy) (*Kafka, error) {
	return startKafka(ctx, files, dir, nil, doors)
}

// StartSecureKafka is StartKafka for one that is Secure as well.
func StartSecureKafka(ctx context.Context, files KafkaFiles, dir string, security KafkaSecurity) (*Kafka, error) {
	return startKafka(ctx, files, dir, &security, nil)
}

func startKafka(ctx context.Context, files KafkaFiles, dir string, security *KafkaSecurity, doors []*Proxy) (*Kafka, error) {
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
	if security != nil {
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
	for i, d := range doors {
		own += fmt.Sprintf(",DOOR%d://%s", i, d.upstream)
		told += fmt.Sprintf(",DOOR%d://%s", i, d.addr)
		protocols += fmt.Sprintf(",DOOR%d:PLAINTEXT", i)
	}
	more := ""
	if security != nil {
		own, told, protocols = own+",SECURE://"+secure, told+",SECURE://"+secure, protocols+",SECURE:SASL_SSL"
		more = security.settings()
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
