// Package delivery holds the clients' connections, and writes to them what is for their
// seats. It knows nothing of how a client comes in, and of where what it missed is found.
//
// Each connection belongs to one worker, which alone writes events to it: each event once,
// in order of its partition. What waits for a client that is slow is bounded. Past that it
// falls behind: it is sent the rest from the lanes, at its own pace.
package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/gateway/reader"
	"eventstream/gateway/uptime"
	"eventstream/lane"
	"eventstream/wire"
)

// Delivery is a gateway's connections.
type Delivery struct {
	cfg     Config
	workers []*worker
	replays *replays
}

// New returns a Delivery without connections. It does no I/O: Run does. Before that it
// has to be told of a topic.
func New(cfg Config, reg prometheus.Registerer, log *slog.Logger) *Delivery {
	d := &Delivery{cfg: cfg.withDefaults(), replays: newReplays(cfg.Player, log)}
	m := newMetrics(reg)
	var all allCounts
	for i := range d.cfg.Workers {
		w := newWorker(&d.cfg, m, log)
		w.replay = d.replays.catchUp
		w.pulse = cfg.Watchdog.Loop(fmt.Sprintf("worker %d of the connections", i))
		cfg.Watchdog.Lock(fmt.Sprintf("the lock of mailbox %d", i), &w.mu)
		d.workers, all = append(d.workers, w), append(all, &w.counts)
	}
	cfg.Watchdog.Lock("the lock of replays", &d.replays.mu)
	reg.MustRegister(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mailbox_bytes", Help: "Bytes of events that wait for the workers.",
	}, d.mailBytes))
	return d
}

func (d *Delivery) mailBytes() (n float64) {
	for _, w := range d.workers {
		n += float64(w.bytes())
	}
	return n
}

// Run writes until ctx ends. It does not close connections.
func (d *Delivery) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range d.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	return group.Wait()
}

// Workers returns who takes what readers post.
func (d *Delivery) Workers() (all []reader.Worker) {
	for _, w := range d.workers {
		all = append(all, w)
	}
	return all
}

// SetTopic says which topic is delivered, and by how many readers. From then on positions
// are those of that topic: nobody may be connected. The first call comes before Run.
func (d *Delivery) SetTopic(topic event.TopicID, readers int) {
	for _, w := range d.workers {
		w.tell(topicChanged{topic, readers})
	}
}

// NewClient returns a connection for a client that has a seat. Nobody knows it yet: see
// Client.Join.
func (d *Delivery) NewClient(e Entry) *Client {
	return newClient(d.workers[int(e.Seat)%len(d.workers)], e)
}

// ReplayContext returns a context for a replay. It ends with all of them.
func (d *Delivery) ReplayContext() (context.Context, context.CancelFunc) {
	return context.WithCancel(d.replays.ctx)
}

// Replay sends a client that was opened with From what it missed. Then it goes live.
// cursor is the client's, or "".
func (d *Delivery) Replay(ctx context.Context, c *Client, cursor string, r *history.Replay) {
	d.replays.start(ctx, &recipient{worker: c.worker, conn: &c.conn, cursor: cursor}, r)
}

// EndReplays ends all replays, and waits for that. None begins any more: their connections
// have to be closed.
func (d *Delivery) EndReplays() { d.replays.end() }

// Dismiss sends one client of so many away, of those that are left at the seats up to one.
func (d *Delivery) Dismiss(of int, upTo event.Seat, reason string) {
	for _, w := range d.workers {
		w.tell(&dismissed{of, upTo, ending{wire.CloseDrain, reason}})
	}
}

// TellLost has all connections be told of what Kafka lost that are live and have their
// events from r. Those that join are told with their hello, and those that catch up when
// that is done.
func (d *Delivery) TellLost(r *reader.Reader, news reader.Losses) {
	for _, w := range d.workers {
		w.tell(visit{done: make(chan struct{}), each: func(w *worker, c *conn) {
			if c.reader == r && c.state == live {
				w.lostNow(c, news)
			}
		}})
	}
}

// Expel closes the connections whose tokens were revoked, and waits for that. Those that
// are not open yet look by themselves when they are.
func (d *Delivery) Expel(ctx context.Context) {
	d.visit(ctx, func(w *worker, c *conn) { w.expel(c) })
}

// Visit has the workers call f with every connection that is not closing, several at the
// same time, and waits for that.
func (d *Delivery) Visit(ctx context.Context, f func(Visited)) {
	d.visit(ctx, func(w *worker, c *conn) {
		if c.state < closing {
			f(Visited{w, c})
		}
	})
}

func (d *Delivery) visit(ctx context.Context, f func(*worker, *conn)) {
	var all []chan struct{}
	for _, w := range d.workers {
		done := make(chan struct{})
		all = append(all, done)
		w.tell(visit{f, done})
	}
	for _, done := range all {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// Visited is a connection during a visit. It must not be kept.
type Visited struct {
	worker *worker
	conn   *conn
}

// Subscriber is whose connection it is.
func (v Visited) Subscriber() string { return v.conn.subscriber }

// Seat is the connection's seat.
func (v Visited) Seat() event.Seat { return v.conn.seat }

// Open reports whether its handshake was answered.
func (v Visited) Open() bool { return v.conn.state != joining }

// Close closes it.
func (v Visited) Close(code int, reason string) { v.worker.close(v.conn, code, reason) }

// Describe says what operators are told of it.
func (v Visited) Describe(now time.Time) lane.Connection {
	c := v.conn
	return lane.Connection{
		Seat: c.seat, Subscriber: c.subscriber,
		Opened: uptime.Unix(int64(c.since), now), Heard: uptime.Unix(c.heard.Load(), now), Expires: c.expires.Load(),
	}
}

// Sent returns how many events were written, counted once for each recipient.
func (d *Delivery) Sent() (n int64) {
	for _, w := range d.workers {
		n += w.counts.sent.Load()
	}
	return n
}
