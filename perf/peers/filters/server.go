package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/centrifugal/centrifuge"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// channel is where all the events of a server are published.
const channel = "events"

// server is a centrifuge server in this process, with a connection for each
// filter. All of them are subscribed to one channel, each with its filter as
// ServerTagsFilter, and an event is a publication with tags. What comes on top of
// the filters is the walk over the subscribers and the writing to those that match.
type server struct {
	tags    []map[string]string
	node    *centrifuge.Node
	metrics *dropped
	conns   []centrifuge.ClientCloseFunc

	mu       sync.Mutex
	arrived  sync.Cond // with mu: a delivery came
	received []delivery
}

// delivery is what came to a subscriber: an encoded push.
type delivery struct {
	subscriber int32
	push       []byte
}

// newServer starts a server. The caller closes it.
func newServer(w workload) (*server, error) {
	s := &server{metrics: &dropped{Registry: prometheus.NewRegistry()}}
	s.arrived.L = &s.mu
	node, err := centrifuge.New(centrifuge.Config{Metrics: centrifuge.MetricsConfig{RegistererGatherer: s.metrics}})
	if err != nil {
		return nil, fmt.Errorf("centrifuge server: %w", err)
	}
	s.node = node
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		i, err := strconv.Atoi(e.Token)
		if err != nil {
			return centrifuge.ConnectReply{}, err
		}
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: e.Token},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {ServerTagsFilter: tagFilter(w.queries[i])}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, fmt.Errorf("centrifuge server: %w", err)
	}
	for i := range w.queries {
		if err := s.connect(i); err != nil {
			s.close()
			return nil, fmt.Errorf("centrifuge connection %d: %w", i, err)
		}
	}
	s.tags = tagsOf(w.events)
	return s, nil
}

func (s *server) connect(i int) error {
	client, stop, err := centrifuge.NewClient(context.Background(), s.node, &transport{server: s, subscriber: int32(i)})
	if err != nil {
		return err
	}
	s.conns = append(s.conns, stop)
	return client.ConnectNoErrorToDisconnect(centrifuge.ConnectRequest{Token: strconv.Itoa(i)})
}

// match publishes the events and waits until all that passed a filter has been
// written to its connection.
func (s *server) match(events []int) int {
	s.mu.Lock()
	s.received = s.received[:0]
	s.mu.Unlock()
	before := s.metrics.count()
	for _, i := range events {
		if _, err := s.node.Publish(channel, strconv.AppendInt(nil, int64(i), 10), centrifuge.WithTags(s.tags[i])); err != nil {
			panic(err) // nothing in it does I/O
		}
	}
	passed := len(events)*len(s.conns) - (s.metrics.count() - before)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.received) < passed {
		s.arrived.Wait()
	}
	return len(s.received)
}

func (s *server) found() []pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pairs []pair
	for _, d := range s.received {
		event, err := d.event()
		if err != nil {
			panic(err) // match writes the number of the event
		}
		pairs = append(pairs, pair{event, d.subscriber})
	}
	return pairs
}

// event is the number that match has published.
func (d delivery) event() (int32, error) {
	var push struct {
		Pub *struct{ Data int32 }
	}
	if err := json.Unmarshal(d.push, &push); err != nil {
		return 0, fmt.Errorf("push %s: %w", d.push, err)
	}
	if push.Pub == nil {
		return 0, fmt.Errorf("push %s: want a publication", d.push)
	}
	return push.Pub.Data, nil
}

func (s *server) close() {
	for _, stop := range s.conns {
		_ = stop() // it has no I/O that could fail
	}
	_ = s.node.Shutdown(context.Background())
}

// transport is one subscriber's connection: it notes what is written to it.
type transport struct {
	server     *server
	subscriber int32
}

func (t *transport) Write(push []byte) error { return t.WriteMany(push) }

func (t *transport) WriteMany(pushes ...[]byte) error {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	for _, p := range pushes {
		t.server.received = append(t.server.received, delivery{t.subscriber, p})
	}
	t.server.arrived.Signal()
	return nil
}

func (t *transport) Name() string                                { return "peers" }
func (t *transport) AcceptProtocol() string                      { return "" }
func (t *transport) Protocol() centrifuge.ProtocolType           { return centrifuge.ProtocolTypeJSON }
func (t *transport) ProtocolVersion() centrifuge.ProtocolVersion { return centrifuge.ProtocolVersion2 }
func (t *transport) Unidirectional() bool                        { return true }
func (t *transport) Emulation() bool                             { return false }
func (t *transport) Close(centrifuge.Disconnect) error           { return nil }

// DisabledPushFlags has everything but publications.
func (t *transport) DisabledPushFlags() uint64 { return ^centrifuge.PushFlagPublication }

// PingPongConfig disables pings, which would be counted.
func (t *transport) PingPongConfig() centrifuge.PingPongConfig {
	return centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
}

// dropped is the one of the server's metrics that says how many publications its
// filters have refused.
type dropped struct {
	*prometheus.Registry
	counter prometheus.Collector
}

// droppedName names the metric, quoted as in its description.
const droppedName = `"centrifuge_node_tags_filter_dropped_publications"`

// Register keeps c if it is the metric, and forgets the others.
func (d *dropped) Register(c prometheus.Collector) error {
	for desc := range sent(c.Describe) {
		if strings.Contains(desc.String(), droppedName) {
			d.counter = c
		}
	}
	return nil
}

func (d *dropped) count() int {
	n := 0.0
	for metric := range sent(d.counter.Collect) {
		var m dto.Metric
		if err := metric.Write(&m); err != nil {
			panic(err) // it is a counter
		}
		n += m.GetCounter().GetValue()
	}
	return int(n)
}

// sent is what send sends.
func sent[T any](send func(chan<- T)) <-chan T {
	c := make(chan T, 1)
	go func() {
		defer close(c)
		send(c)
	}()
	return c
}
