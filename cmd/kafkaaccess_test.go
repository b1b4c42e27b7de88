package cmd_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"eventstream/internal/testenv"
	"eventstream/topic"
	"eventstream/topic/access"
)

// TestLeastRights has events flow over SASL_SSL, with the rights that docs/kafka.md lists
// and no others, from a producer in a process of its own to a client. A record that is no
// event becomes a dead letter. One service has a password that is wrong.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	kafka := testenv.KafkaServerSecure(t, "filter", "producer")
	made := topic.Config{Brokers: []string{kafka.Addr}, Topic: "events", Partitions: 4}
	if _, err := topic.Ensure(t.Context(), made, testenv.Log(t)); err != nil {
		t.Fatal(err)
	}
	kafka.Grant("filter", kadm.NewACLs().Topics("events").Operations(kadm.OpRead, kadm.OpDescribeConfigs))
	kafka.Grant("filter", kadm.NewACLs().Topics("events.dlq").Operations(kadm.OpWrite))
	kafka.Grant("filter", kadm.NewACLs().Groups("events").Operations(kadm.OpRead))
	kafka.Grant("producer", kadm.NewACLs().Topics("events").Operations(kadm.OpWrite))

	redis := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	p := newPipelineWith(t, redis.Addr, topic.Config{Brokers: []string{kafka.Secure}, Topic: "events"})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(testenv.KafkaPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "EVENTSTREAM_KAFKA_TLS=true", "EVENTSTREAM_KAFKA_TLS_CA="+kafka.CA, "EVENTSTREAM_KAFKA_SASL=scram-sha-512", "EVENTSTREAM_KAFKA_SASL_USER=filter")
	wrong := p.env
	p.env = append(p.env, "EVENTSTREAM_KAFKA_SASL_PASSWORD_FILE="+password)
	filter := "http://" + p.service("filter").addr
	p.service("api", "--filter-url", filter)
	p.addFilter(everything("all"))
	l := p.listen(p.service("gateway", "--filter-url", filter), "all")

	events := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(events, []byte(`{"event_type":"a","event_id":"1","user_id":"u"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	prod := p.start("producer", "--file", events, "--kafka-sasl", "plain", "--kafka-sasl-user", "producer")
	if code := prod.wait(time.Minute); code != 0 {
		t.Fatalf("producer exited with %d:\n%s", code, prod.out.tail(20))
	}
	l.wait(1, time.Minute)

	a, _, err := access.Open(access.Config{TLS: true, CA: kafka.CA, Mechanism: access.Scram256, User: "producer", Password: testenv.KafkaPassword}, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	p.topic.Access = a
	direct, err := topic.NewProducer(p.topic, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	direct.Produce(t.Context(), []byte("u"), []byte("no event"), nil, nil)
	if err := direct.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.send(direct, parseSource(t, []byte(`{"event_type":"a","event_id":"2","user_id":"u"}`)))
	l.wait(2, time.Minute)
	p.topic.Brokers, p.topic.Access = []string{kafka.Addr}, topic.Access{}
	if letters := p.deadLetters(1); string(letters[0].Value) != "no event" {
		t.Errorf("the dead letter is %q", letters[0].Value)
	}
	if got := p.pull("all", "since=1h"); len(got) != 2 {
		t.Errorf("pulled %d events, want 2", len(got))
	}

	p.env = append(wrong, "EVENTSTREAM_KAFKA_SASL_PASSWORD=wr0ng")
	refused := p.start("filter", "--listen", testenv.Addr(t))
	if code := refused.wait(time.Minute); code != 1 {
		t.Errorf("a wrong password: exit code %d, want 1", code)
	}
	refused.says(`(SASL SCRAM-SHA-512 as \"filter\", over TLS): the broker does not accept our credentials`, time.Second)
}
