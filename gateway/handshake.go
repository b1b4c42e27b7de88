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

// Handler serves /ws, and StreamHandler /sse.
func (g *Gateway) Handler() http.Handler       { return http.HandlerFunc(g.serveWS) }
func (g *Gateway) StreamHandler() http.Handler { return http.HandlerFunc(g.serveSSE) }

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
	if err := g.topics.checkReach(ask.Issued, ask.Subscriber); err != nil {
		return admission.BadRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	if refused := g.gate.enter(ask.Subscriber, ask.Address, g.unready); refused != nil {
		return refused
	}
	defer g.gate.admitted.Done()
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.timeout)
	defer cancel()
	e, err := g.joins.join(ctx, ask)
	if err != nil {
		g.log.Debug("join failed", "err", err)
		return refusalOf(err)
	}
	if err := g.takeOver(w, e); err != nil {
		e.client.Closed()
		g.log.Debug("upgrade failed", "err", err)
		return nil // the client was told
	}
	g.joins.welcome(e)
	return nil
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
func (g *Gateway) takeOver(w http.ResponseWriter, e *entrance) error {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("hijack: %w", err)
	}
	if buf.Reader.Buffered() > 0 {
		nc.Close()
		return errors.New("client sent frames before the handshake was answered")
	}
	unacked := time.Duration(0)
	if e.ask.Framing == framing.EventStream {
		unacked = time.Duration(g.cfg.deadSeconds()) * time.Second
	}
	socket.Tune(nc, unacked)
	engine := g.pollers
	if !socket.Pollable(nc) {
		engine = g.threads
	}
	err = engine.Add(nc, e.client)
	g.sockets.Saw(err)
	if err != nil {
		g.metrics.refused.WithLabelValues("503").Inc()
		var head []byte
		if e.ask.Framing == framing.EventStream {
			head = []byte(admission.EventStreamType)
		}
		ops.Refuse(nc, head)
	}
	return err
}
