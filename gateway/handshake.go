package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
	"eventstream/internal/ops"
)

// enter lets the client in whose request is right in itself, and which asks for
// what the query says. Its answer comes with the connection's first message. What
// costs little to refuse is refused first, and counts for nothing: see rates.
func (g *Gateway) enter(w http.ResponseWriter, r *http.Request, q url.Values, f framing.Kind, answer func(door) []byte) *refusal {
	door, refused := g.shown(r)
	if refused != nil {
		return refused
	}
	ask, refused := g.parseAsk(q)
	if refused != nil {
		return refused
	}
	from := g.address(r)
	if refused := g.identify(r.Context(), q, &door, from); refused != nil {
		return refused
	}
	ask.subscriber, ask.expires, ask.pass = door.subscriber, door.expires, door.pass
	ask.framing, ask.address = f, from.crowd
	if err := g.checkReach(ask.issued, ask.subscriber); err != nil {
		return badRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	if refused := g.admit(ask); refused != nil {
		return refused
	}
	defer g.admitted.Done()
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.timeout)
	defer cancel()
	e, err := g.join(ctx, ask)
	if err != nil {
		g.log.Debug("join failed", "err", err)
		return refusalOf(err)
	}
	if err := g.takeOver(w, e.conn); err != nil {
		e.conn.worker.tell(closed{e.conn})
		g.log.Debug("upgrade failed", "err", err)
		return nil // who is there was told
	}
	g.welcome(e, answer(door))
	return nil
}

// admit counts a handshake and its connection in, if the gateway can take it.
// The caller calls admitted.Done; join counts the connection out.
func (g *Gateway) admit(a ask) *refusal {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.phase >= phaseEmptying {
		return unavailable("this gateway is stopping")
	}
	if reason := g.unready(); reason != "" {
		return unavailable("%s", reason)
	}
	if g.full() {
		return unavailable("%v", g.errFull())
	}
	if refused := g.crowds.enterLocked(a, g.cfg); refused != nil {
		return refused
	}
	g.open.Add(1)
	g.admitted.Add(1)
	return nil
}

// takeOver hands the socket to an engine. The handshake is not answered yet:
// the worker does that together with hello, so that nothing can come
// before it.
func (g *Gateway) takeOver(w http.ResponseWriter, c *conn) error {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("hijack: %w", err)
	}
	if buf.Reader.Buffered() > 0 {
		nc.Close()
		return errors.New("client sent frames before the handshake was answered")
	}
	unacked := time.Duration(0)
	if c.framing == framing.EventStream {
		unacked = time.Duration(g.deadSeconds()) * time.Second
	}
	socket.Tune(nc, unacked)
	engine := g.pollers
	if !socket.Pollable(nc) {
		engine = g.threads
	}
	err = engine.Add(nc, c)
	g.sockets.Saw(err)
	if err != nil {
		g.metrics.refused.WithLabelValues("503").Inc()
		var head []byte
		if c.framing == framing.EventStream {
			head = []byte(eventStreamType)
		}
		ops.Refuse(nc, head)
	}
	return err
}
