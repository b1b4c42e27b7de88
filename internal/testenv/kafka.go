package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka returns the brokers of the shared Kafka. Tests keep apart by Topic.
func Kafka(t testing.TB) []string {
	t.Helper()
	brokers := strings.Split(shared(t, "EVENTSTREAM_KAFKA"), ",")
	demandListener(t, "Kafka", brokers[0])
	return brokers
}

// Topic returns a topic name that no other test uses, also good as a group's
// name. It doesn't create the topic, but deletes it after the test, and its dead
// letter topic.
func Topic(t testing.TB) string {
	t.Helper()
	brokers := Kafka(t)
	topic := "test-" + topicChars(t.Name()) + "-" + strings.ToLower(rand.Text()[:8])
	t.Cleanup(func() {
		if err := deleteTopics(brokers, topic, topic+".dlq"); err != nil {
			t.Errorf("delete topic %s: %v", topic, err)
		}
	})
	return topic
}

func deleteTopics(brokers []string, topics ...string) error {
	client, err := kadm.NewOptClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	deleted, err := client.DeleteTopics(ctx, topics...)
	for _, d := range deleted.Sorted() {
		if !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			err = errors.Join(err, d.Err)
		}
	}
	return err
}

// topicChars replaces what Kafka doesn't allow in names, of which it takes 249 bytes.
func topicChars(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, name)
	return name[:min(len(name), 200)]
}
