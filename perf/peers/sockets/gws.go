package main

import (
	"net/http"

	"github.com/lxzan/gws"
)

// gwsServer has a goroutine for each socket, and encodes a broadcast once.
type gwsServer struct {
	gws.BuiltinEventHandler
	upgrader    *gws.Upgrader
	subscribers *registry[*gws.Conn]
}

func newGWS() *gwsServer {
	s := &gwsServer{subscribers: newRegistry[*gws.Conn]()}
	s.upgrader = gws.NewUpgrader(s, nil)
	return s
}

const subscriberKey = "subscriber"

func (s *gwsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := s.upgrader.Upgrade(w, r)
	if err != nil {
		return // it has answered
	}
	subscriber := r.URL.Query().Get("subscriber_id")
	c.Session().Store(subscriberKey, subscriber)
	s.subscribers.add(subscriber, c)
	c.WriteAsync(gws.OpcodeText, []byte(hello), nil)
	go c.ReadLoop() // and not in the handler, which would keep its buffers
}

func (s *gwsServer) OnClose(c *gws.Conn, _ error) {
	if v, ok := c.Session().Load(subscriberKey); ok {
		s.subscribers.remove(v.(string))
	}
}

func (s *gwsServer) send(subscriber string, message []byte) {
	if subscriber != "" {
		s.subscribers.each(subscriber, func(c *gws.Conn) { c.WriteAsync(gws.OpcodeText, message, nil) })
		return
	}
	b := gws.NewBroadcaster(gws.OpcodeText, message)
	defer b.Close()
	s.subscribers.each("", func(c *gws.Conn) { b.Broadcast(c) })
}
