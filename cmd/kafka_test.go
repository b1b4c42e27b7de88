package cmd_test

import (
	"testing"
	"time"

	"eventstream/internal/testenv"
	"eventstream/topic"
)

// TestKafkaRestart kills the only broker while events flow, then has it restart in
// order. A producer waits for it, and nothing that it was told to have sent is lost.
func TestKafkaRestart(t *testing.T) {
	t.Parallel()
	kafka := testenv.KafkaServer(t)
	p := newPipelineWith(t, testenv.Redis(t).Addr, topic.Config{
		Brokers: []string{kafka.Addr}, Topic: "events", DeliveryTimeout: 2 * time.Minute,
	})
	f := p.flow(2, append(specs[:4:4], everything("away"), everything("all")))
	f.continues("the start")
	away := f.listeners[4]
	away.leave()
	began := time.Now()
	kafka.Kill()
	kafka.Restart()
	t.Logf("the broker was away for %v", time.Since(began).Round(time.Millisecond))
	f.settles()
	f.paused("kill -9 of the broker")
	away.comeBack(f.gateways[1])
	began = time.Now()
	kafka.Restart()
	t.Logf("the broker was away for %v", time.Since(began).Round(time.Millisecond))
	f.settles()
	f.paused("restart of the broker")
	for _, pr := range append(f.filters, f.gateways...) {
		pr.ready()
	}
	f.finish()
}
