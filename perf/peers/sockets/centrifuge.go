package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
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

func newCentrifuge(redis string) (*centrifugeServer, error) {
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
		subscriptions := map[string]centrifuge.SubscribeOptions{e.Name: recover} // the client's name is its subscriber
		if os.Getenv("PEER_EACH") != "true" {
			subscriptions = map[string]centrifuge.SubscribeOptions{everybody: recover}
		}
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
	if subscriber == "" {
		subscriber = everybody
	}
	if _, err := s.node.Publish(subscriber, message, centrifuge.WithHistory(kept, keptFor)); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err) // swarm finds the event missing
	}
}
