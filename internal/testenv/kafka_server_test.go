package testenv

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What a private Kafka has acknowledged survives its death.
func TestKafkaServer(t *testing.T) {
	k := KafkaServer(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.DefaultProduceTopic("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "x"); err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) {
		if err := client.ProduceSync(t.Context(), kgo.StringRecord("v")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			k.Kill()
		}
		k.Restart()
		ends, err := admin.ListEndOffsets(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if end, _ := ends.Lookup("x", 0); end.Offset != round+1 {
			t.Errorf("round %d: the log ends at %d, want %d", round, end.Offset, round+1)
		}
	}
}
