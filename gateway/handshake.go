package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
	"eventstream/internal/ops"
	"eventstream/replay"
)

// serveWS upgrades a request to a WebSocket, or says why not.
func (g *Gateway) serveWS(w http.ResponseWriter, r *http.Request) {
	ask, refused := g.admission.WebSocket(r)
	if refused == nil {
		refused = g.enter(w, r, ask)
	}
	if refused != nil {
		g.countRefused(refused)
		refused.Write(w)
	}
}

// serveSSE answers with a stream of server-sent events, or says why not.
func (g *Gateway) serveSSE(w http.ResponseWriter, r *http.Request) {
	ask, refused := g.admission.Stream(w.Header(), r)
	switch {
	case refused != nil:
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	default:
		refused = g.enter(w, r, ask)
	}
	if refused != nil {
		g.countRefused(refused)
		refused.WriteStream(w, r)
	}
}

func (g *Gateway) countRefused(r *admission.Refusal) {
	g.metrics.refused.WithLabelValues(strconv.Itoa(r.Status)).Inc()
}

// enter lets a client in that may ask for what it asks. Everything that can fail with a
// clear answer is done before the connection is hijacked: its client is announced then.
// The answer to the handshake comes with the connection's first message.
func (g *Gateway) enter(w http.ResponseWriter, r *http.Request, ask admission.Ask) *admission.Refusal {
	if err := g.checkReach(ask.Issued, ask.Subscriber); err != nil {
		return admission.BadRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
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
		return nil // the client was told
	}
	g.welcome(e)
	return nil
}

// admit counts a handshake and its connection in, if the gateway can take it.
// The caller calls admitted.Done; join counts the connection out.
func (g *Gateway) admit(ask admission.Ask) *admission.Refusal {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.phase >= phaseEmptying {
		return admission.Unavailable("this gateway is stopping")
	}
	if reason := g.unready(); reason != "" {
		return admission.Unavailable("%s", reason)
	}
	if g.full() {
		return admission.Unavailable("%v", g.errFull())
	}
	if refused := g.connections.Enter(ask.Subscriber, ask.Address); refused != nil {
		return refused
	}
	g.open.Add(1)
	g.admitted.Add(1)
	return nil
}

// countOut undoes what admit counted.
func (g *Gateway) countOut(c *conn) {
	g.connections.Leave(c.subscriber, c.address)
	g.open.Add(-1)
}

// refusalOf says why a client can't join now.
func refusalOf(err error) *admission.Refusal {
	switch {
	case errors.Is(err, replay.ErrBeyondEnd):
		return admission.BadRequest("bad_cursor", "the cursor is of events that do not exist yet; pass one that the gateway sent, unchanged")
	case errors.Is(err, event.ErrSeen):
		return admission.BadSeen(err)
	case errors.Is(err, acks.ErrBad):
		return admission.BadRequest("bad_ack", "what was acknowledged is of events that do not exist yet; the operator can have it forgotten, by DELETE /subscribers/{id}/ack of the API")
	case errors.Is(err, replay.ErrUnavailable):
		refused := admission.Unavailable("what was missed can't be replayed from Kafka at the moment; try again")
		if un, ok := errors.AsType[*replay.Unavailable](err); ok {
			refused.RetryAfter = max(1, int(un.RetryAfter.Seconds()))
		}
		return refused
	case errors.Is(err, errPartitions):
		return admission.Unavailable("the cursor is of more partitions than are known here; try again, or pass one that the gateway sent, unchanged")
	case errors.Is(err, acks.ErrStore):
		return admission.Unavailable("what was acknowledged can't be read or saved now; try again")
	}
	return admission.Unavailable("the store does not take the connection now; try again")
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
		unacked = time.Duration(g.cfg.deadSeconds()) * time.Second
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
			head = []byte(admission.EventStreamType)
		}
		ops.Refuse(nc, head)
	}
	return err
}
