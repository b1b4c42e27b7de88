package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugeServer has a node with the Redis engine and history, so that clients can
// recover. Each subscriber is in a channel of its own, and in one for all.
type centrifugeServer struct {
	http.Handler
	node *centrifuge.Node
}

const (
	everybody = "all"
	kept      = 1000
	keptFor   = 10 * time.Minute // as our lanes
)

func newCentrifuge(redis string, to recipients) (*centrifugeServer, error) {
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: 16 << 20})
	if err != nil {
		return nil, err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: redis})
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	node.SetBroker(broker)
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		recover := centrifuge.SubscribeOptions{EnableRecovery: true, EnablePositioning: true}
		channel := everybody
		switch to {
		case each:
			channel = e.Name // the client's name is its subscriber
		case matched:
			recover.ServerTagsFilter = tagFilter(e.Name)
		}
		subscriptions := map[string]centrifuge.SubscribeOptions{channel: recover}
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: e.Name}, Subscriptions: subscriptions}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	h := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize: 512, WriteBufferSize: 512, UseWriteBufferPool: true, // what its documentation has for many sockets
		CheckOrigin: func(*http.Request) bool { return true },
	})
	return &centrifugeServer{h, node}, nil
}

func (s *centrifugeServer) send(subscriber string, message []byte) {
	s.publish(cmp.Or(subscriber, everybody), message)
}

// match sends to those whose filters match the event.
func (s *centrifugeServer) match(event, message []byte) {
	var e struct {
		Type   string      `json:"event_type"`
		Amount json.Number `json:"amount"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		fmt.Fprintln(os.Stderr, "event:", err)
		return
	}
	s.publish(everybody, message, centrifuge.WithTags(map[string]string{"event_type": e.Type, "amount": e.Amount.String()}))
}

// tagFilter is the filter of a subscriber of perf/swarm's --none: events of the run's
// type, and of at least 1,000 and the subscriber's number.
func tagFilter(subscriber string) *centrifuge.FilterNode {
	run, number, _ := strings.Cut(subscriber, "-")
	n, _ := strconv.Atoi(number)
	return &centrifuge.FilterNode{Op: "and", Nodes: []*centrifuge.FilterNode{
		{Key: "event_type", Cmp: "eq", Val: run},
		{Key: "amount", Cmp: "gte", Val: strconv.Itoa(1000 + n)},
	}}
}

func (s *centrifugeServer) publish(channel string, message []byte, options ...centrifuge.PublishOption) {
	if _, err := s.node.Publish(channel, message, append(options, centrifuge.WithHistory(kept, keptFor))...); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err) // swarm finds the event missing
	}
}
