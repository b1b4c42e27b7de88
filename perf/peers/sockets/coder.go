package main

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// coder has a goroutine and a queue for each socket, as the chat of its examples.
type coder struct{ subscribers *registry[*coderConn] }

type coderConn struct {
	queue chan []byte
	slow  context.CancelFunc
}

const queued = 1024 // messages; a socket with more is closed

func (s *coder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(c.CloseRead(context.Background()))
	defer cancel()
	subscriber := r.URL.Query().Get("subscriber_id")
	me := &coderConn{make(chan []byte, queued), cancel}
	s.subscribers.add(subscriber, me)
	defer s.subscribers.remove(subscriber)
	if c.Write(ctx, websocket.MessageText, []byte(hello)) != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-me.queue:
			if c.Write(ctx, websocket.MessageText, m) != nil {
				return
			}
		}
	}
}

func (s *coder) send(subscriber string, message []byte) {
	s.subscribers.each(subscriber, func(c *coderConn) {
		select {
		case c.queue <- message:
		default:
			c.slow()
		}
	})
}
