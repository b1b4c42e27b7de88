package delivery

import (
	"context"
	"log/slog"
	"sync"

	"eventstream/gateway/history"
	"eventstream/internal/trouble"
	"eventstream/wire"
)

// replays are those under way: connections are sent what they missed.
type replays struct {
	player  *history.Player
	trouble *trouble.Trouble
	ctx     context.Context // ends with all of them
	cancel  context.CancelFunc

	mu      sync.Mutex
	over    bool // none begins any more
	running sync.WaitGroup
}

func newReplays(p *history.Player, log *slog.Logger) *replays {
	r := &replays{player: p, trouble: trouble.New(log, "replay failed; the client may try again", "replays work again")}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// end ends all replays, and waits for that. None begins any more.
func (rs *replays) end() {
	rs.mu.Lock()
	rs.over = true
	rs.mu.Unlock()
	rs.cancel()
	rs.running.Wait()
}

// recipient is a connection that is sent what it missed. Meanwhile its live events wait.
type recipient struct {
	worker *worker
	conn   *conn
	cursor string // of the client that resumes; "" if it has none
	slow   bool   // it fell behind
}

// catchUp starts the replay of a connection that fell behind.
func (rs *replays) catchUp(w *worker, c *conn, r *history.Replay) (stop func()) {
	ctx, stop := context.WithCancel(rs.ctx)
	rs.start(ctx, &recipient{worker: w, conn: c, slow: true}, r)
	return stop
}

// start lets r run until it is done or ctx ends, unless the gateway is stopping:
// then the connection is closed soon.
func (rs *replays) start(ctx context.Context, to *recipient, r *history.Replay) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.over {
		return
	}
	c := to.conn
	r.Client, r.Lanes, r.Subscriber = to, c.reader.Past(), c.subscriber
	rs.running.Go(func() {
		err := rs.player.Play(ctx, r)
		if err == nil {
			rs.trouble.Worked()
			to.worker.tell(caughtUp{c})
			return
		}
		if ctx.Err() == nil {
			rs.trouble.Failed(err, "seat", c.seat)
		}
		to.worker.tell(aborted{c})
	})
}

// Send is for history.Client.
func (r *recipient) Send(ctx context.Context, events []*history.Event, at []int64) error {
	done := make(chan struct{})
	r.worker.tell(&replayed{r.conn, events, at, done})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Lost is for history.Client. A client that was too slow for the events has to come back
// to be told.
func (r *recipient) Lost(reason string, m wire.Missing, before, after []int64) {
	if r.slow && reason != wire.GapSkipped && reason != wire.GapCompacted { // these are not due to its slowness
		r.worker.metrics.tooSlow.Inc()
		r.worker.tell(&end{conn: r.conn, at: before, ending: ending{wire.CloseTooSlow, "too slow: what waits is past retention"}})
		return
	}
	r.worker.tell(&gapped{r.conn, Gap{reason, []wire.Missing{m}, r.cursor}, after})
}

// replayed: earlier events, before the live ones.
type replayed struct {
	conn  *conn
	batch []*history.Event
	at    []int64       // positions after batch
	done  chan struct{} // closed when the batch has left, or never will
}

// apply writes the events, and closes done when they have left.
func (r *replayed) apply(w *worker) {
	c := r.conn
	for rest := r.batch; len(rest) > 0 && c.state == replaying; {
		rest = rest[w.sendSome(c, rest, r.at):]
	}
	if c.state != replaying || !c.sock.Stall() {
		close(r.done)
		return
	}
	c.replayDone = r.done
}

// caughtUp: there are no more earlier events.
type caughtUp struct{ conn *conn }

func (l caughtUp) apply(w *worker) {
	if l.conn.state == replaying {
		w.goLive(l.conn)
	}
}

// gapped: some of the earlier events are gone.
type gapped struct {
	conn *conn
	gap  Gap
	at   []int64 // where it goes on
}

func (g *gapped) apply(w *worker) {
	if g.conn.state == replaying {
		w.gap(g.conn, g.gap, w.cursor(g.conn, g.at))
	}
}

// aborted: a replay failed. The client has to reconnect.
type aborted struct{ conn *conn }

func (a aborted) apply(w *worker) {
	if a.conn.state != gone {
		w.close(a.conn, wire.CloseDrain, "what was missed can't be read now; reconnect")
	}
}
