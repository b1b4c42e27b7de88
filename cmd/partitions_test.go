package cmd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/internal/testenv"
)

// admin asks Kafka for something.
func (p *pipeline) admin(do func(context.Context, *kadm.Client) error) {
	p.t.Helper()
	cl, err := kadm.NewOptClient(kgo.SeedBrokers(p.topic.Brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	if err := do(p.t.Context(), cl); err != nil {
		p.t.Fatal(err)
	}
}

// TestPartitionsAdded adds partitions under load. No process ends, no connection is
// closed, and nothing is lost: neither of what was written to them before they were
// noticed, nor for clients that come back with cursors of before, from Redis and, once
// that was emptied, from Kafka.
func TestPartitionsAdded(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.flow(2, append(specs[:4:4], everything("all")))
	f.continues("the start")
	away, all := f.listeners[0], f.listeners[4]
	away.leave()
	hellos := all.hellos.Load()
	p.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.UpdatePartitions(ctx, 7, p.topic.Topic)
		return err
	})
	began := time.Now()
	f.again <- struct{}{} // a producer that knows of them at once
	for _, l := range f.listeners {
		l.moved = true
	}
	testenv.Eventually(t, 30*time.Second, func() error {
		all.mu.Lock()
		defer all.mu.Unlock()
		for n := range int32(7) {
			if _, ok := all.last[n]; !ok {
				return fmt.Errorf("nothing came of partition %d", n)
			}
		}
		return nil
	})
	t.Logf("events of all partitions came after %v", time.Since(began).Round(time.Millisecond))
	f.settles()
	if n := all.hellos.Load(); n != hellos {
		t.Errorf("a connection that was there when partitions were added was closed: %d hellos, were %d", n, hellos)
	}
	away.comeBack(f.gateways[1])
	f.settles()

	away.leave()
	p.flushRedis() // so that the next one is served from Kafka
	f.settles()
	away.comeBack(f.gateways[0])
	f.settles()
	for _, l := range f.listeners {
		if l.mu.Lock(); len(l.gaps) > 0 {
			t.Errorf("%s was told of gaps: %+v", l.subscriber, l.gaps)
		}
		l.mu.Unlock()
	}
	f.finish()
	for _, pr := range append(f.gateways, f.filters...) {
		select {
		case <-pr.done:
			t.Errorf("%s ended: %v", pr.name, pr.err)
		default:
		}
	}
}

// TestTopicMadeAnew deletes the topic and makes it anew, with fewer partitions, by hand:
// clients are told, events flow again, and nobody has to be started again.
func TestTopicMadeAnew(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.flow(2, []filter.Spec{everything("all")})
	f.continues("the start")
	close(f.stop)
	f.done.Wait()
	all := f.listeners[0]
	all.wait(len(f.sent), 30*time.Second)
	p.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.DeleteTopic(ctx, p.topic.Topic)
		return err
	})
	for _, pr := range f.filters {
		pr.says("the topic was deleted", 60*time.Second)
	}
	p.admin(func(ctx context.Context, adm *kadm.Client) error {
		topics, err := adm.ListTopics(ctx, p.topic.Topic)
		if topics.Has(p.topic.Topic) {
			return errors.New("the topic was made again by somebody else")
		}
		if err == nil {
			_, err = adm.CreateTopic(ctx, 2, 1, nil, p.topic.Topic)
		}
		return err
	})
	testenv.Eventually(t, 60*time.Second, func() error {
		all.mu.Lock()
		defer all.mu.Unlock()
		if len(all.gaps) == 0 || all.gaps[0].Reason != "other_topic" {
			return fmt.Errorf("no gap was told: %+v", all.gaps)
		}
		return nil
	})
	all.mu.Lock()
	all.events, all.gaps = nil, nil
	all.mu.Unlock()
	f.sent, f.stop = nil, make(chan struct{})
	f.done.Go(f.produce)
	f.continues("a topic was made anew")
	f.finish()
	for _, pr := range append(f.gateways, f.filters...) {
		pr.ready()
	}
}
