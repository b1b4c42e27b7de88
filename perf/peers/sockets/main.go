// Command sockets is a gateway made with another library, for perf/swarm to measure
// beside ours. It takes events off Kafka and sends each to its subscribers, by the
// key of the record, or to all.
//
// It does less than our gateway: there are no filters, no positions to resume from
// (but for centrifuge), and no other process between Kafka and the sockets.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/wire"
)

// server is a library's way to hold subscribers.
type server interface {
	http.Handler
	// send sends a message to one subscriber, or to all if it is "". It must not block.
	send(subscriber string, message []byte)
}

// recipients are those that an event is sent to.
type recipients string

const (
	all     recipients = "all"
	each    recipients = "each"    // the subscriber that is its key
	matched recipients = "matched" // those whose tag filters match; centrifuge's
)

const hello = `{"type":"hello"}`

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "sockets:", err)
		os.Exit(1)
	}
}

// run takes its settings from the environment, since perf/stack starts it.
func run(ctx context.Context) error {
	s, err := open(os.Getenv("PEER_KIND"), os.Getenv("PEER_REDIS"), recipients(os.Getenv("PEER_TO")))
	if err != nil {
		return err
	}
	kafka, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(os.Getenv("PEER_KAFKA"), ",")...),
		kgo.ConsumeTopics(os.Getenv("PEER_TOPIC")), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer kafka.Close()
	l, err := net.Listen("tcp", os.Getenv("PEER_LISTEN"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", s)
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(l, mux) }()
	go consume(ctx, kafka, s, recipients(os.Getenv("PEER_TO")))
	return <-failed
}

func open(kind, redis string, to recipients) (server, error) {
	switch kind {
	case "gws":
		return newGWS(), nil
	case "coder":
		return &coder{subscribers: newRegistry[*coderConn]()}, nil
	case "centrifuge":
		return newCentrifuge(redis, to)
	}
	return nil, fmt.Errorf("PEER_KIND %q: there are gws, coder, centrifuge", kind)
}

// consume sends what comes, one event a message, as these libraries' users do.
func consume(ctx context.Context, kafka *kgo.Client, s server, to recipients) {
	for ctx.Err() == nil {
		kafka.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			m := wire.AppendEventsHead(make([]byte, 0, len(r.Value)+100))
			m = wire.AppendEvent(m, event.ID{Partition: r.Partition, Offset: r.Offset}, r.Timestamp.UnixMilli(), r.Value)
			m = append(m, wire.EventsTail...)
			switch c, _ := s.(*centrifugeServer); {
			case to == each:
				s.send(string(r.Key), m)
			case to == matched && c != nil:
				c.match(r.Value, m)
			default:
				s.send("", m)
			}
		})
	}
}

// registry is who is connected.
type registry[C any] struct {
	mu    sync.RWMutex
	conns map[string]C
}

func newRegistry[C any]() *registry[C] { return &registry[C]{conns: make(map[string]C)} }

func (r *registry[C]) add(subscriber string, c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[subscriber] = c
}

func (r *registry[C]) remove(subscriber string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, subscriber)
}

// each calls do for one subscriber, if it is there, or for all if it is "".
func (r *registry[C]) each(subscriber string, do func(C)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if subscriber != "" {
		if c, ok := r.conns[subscriber]; ok {
			do(c)
		}
		return
	}
	for _, c := range r.conns {
		do(c)
	}
}
