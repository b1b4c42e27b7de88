package gateway

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/presence"
	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/wire"
)

// The model test runs real gateways, in virtual time, against a store in memory
// and plain models of everything else: filter services that do one step at a
// time, clients whose sockets stick and break, a store that goes down and comes
// back with less. What happens is drawn from a seed. Whatever it is, each client
// has to get what it was promised.

var (
	modelSchedules = flag.Int("model.schedules", 0, "schedules that the model test runs; 0 for a number that fits")
	modelSeed      = flag.Uint64("model.seed", 0, "the only schedule that the model test runs, with all that happens in it")
)

func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		m := runModel(t, *modelSeed, drawSchedule(*modelSeed), noMistake, true)
		t.Logf("seed %d:\n%s", *modelSeed, m.tell())
		if m.failure != "" {
			t.Error(explain(t, *modelSeed, m.failure, noMistake))
		}
		return
	}
	n := *modelSchedules
	switch {
	case n != 0:
	case testing.Short() || testenv.Race:
		n = 200
	default:
		n = 2000
	}
	var seed, ran, events atomic.Uint64
	t.Run("schedules", func(t *testing.T) {
		for i := range 2 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					s := seed.Add(1)
					if s > uint64(n) {
						return
					}
					m := runModel(t, s, drawSchedule(s), noMistake, false)
					ran.Add(1)
					events.Add(uint64(m.received))
					if m.failure != "" {
						t.Error(explain(t, s, m.failure, noMistake))
					}
				}
			})
		}
	})
	t.Logf("%d schedules, %d events received", ran.Load(), events.Load())
}

// explain tells of a schedule that failed, with as few actions as are needed.
func explain(t *testing.T, seed uint64, failure string, wrong mistake) string {
	plan := drawSchedule(seed)
	for size := len(plan) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(plan); {
			less := slices.Concat(plan[:i], plan[i+size:])
			if m := runModel(t, seed, less, wrong, false); m.failure != "" {
				plan = less
			} else {
				i += size
			}
		}
	}
	m := runModel(t, seed, plan, wrong, true)
	return fmt.Sprintf("seed %d: %s\nRun it again with -run TestModel -model.seed %d. With fewer actions, %s:\n%s",
		seed, failure, seed, m.failure, m.tell())
}

// modelRecord is an event in the model's Kafka.
type modelRecord struct {
	to   []string // subscribers
	data []byte
	at   time.Time
}

// model is the state of one run.
type model struct {
	t       *testing.T
	mistake mistake
	story   []string
	tells   bool
	logs    logBuffer // of the gateways
	failure string    // the first one

	kafka    [][]modelRecord // by partition
	trimmed  []int64         // below, lanes need not hold anything
	gone     []int64         // below, they hold nothing
	store    *modelStore
	writers  []*modelWriter // by partition
	zombies  []*modelWriter
	gateways []*modelGateway
	dead     []*modelGateway
	clients  []*modelClient
	conns    []*modelConn // those that are open
	cursors  map[string][]*known
	seats    map[event.Address]*seatRecord
	names    int // given out
	received int // events
	start    time.Time
}

const modelPartitions = 2

// runModel runs a schedule, and then heals everything and looks what is missing.
func runModel(t *testing.T, seed uint64, plan []action, wrong mistake, tells bool) *model {
	var m *model
	bubble.Test(t, func(t *testing.T) {
		m = newModel(t, seed, wrong, tells)
		defer m.stop()
		m.warmUp()
		for i, a := range plan {
			if m.failure != "" {
				return
			}
			m.trace("%d. %s", i, time.Since(m.start))
			m.do(a)
			m.quiet(a.rng())
		}
		m.heal()
	})
	return m
}

func newModel(t *testing.T, seed uint64, wrong mistake, tells bool) *model {
	m := &model{
		t: t, mistake: wrong, tells: tells, start: time.Now(),
		kafka: make([][]modelRecord, modelPartitions), trimmed: make([]int64, modelPartitions), gone: make([]int64, modelPartitions),
		store:   &modelStore{Memory: lane.NewMemory()},
		cursors: make(map[string][]*known), seats: make(map[event.Address]*seatRecord),
	}
	for p := range int32(modelPartitions) {
		m.writers = append(m.writers, m.writer(p))
	}
	for i, subscriber := range []string{"ann", "ann", "bob", "eve"} {
		m.clients = append(m.clients, &modelClient{name: fmt.Sprint("client ", i), subscriber: subscriber})
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 2 {
		m.gateways = append(m.gateways, nil)
		m.launch(i, rng)
	}
	return m
}

// modelGateway is a gateway that runs, without pollers.
type modelGateway struct {
	*Gateway
	line    *line
	cancel  context.CancelFunc
	done    chan struct{}
	died    time.Time
	trouble []loss // when it could not reach the store
}

const modelWindow = 20 * time.Second

// launch starts a gateway in the place of another.
func (m *model) launch(i int, rng *rand.Rand) {
	cfg := Config{MaxPending: 300, ResumeWindow: modelWindow, Heartbeat: 4 * time.Second, Drain: time.Second}
	if rng.IntN(2) == 0 {
		cfg.RingBytes = 1 + rng.IntN(1000)
	}
	cfg.workers = 2
	cfg.id = event.Gateway(rng.Uint64())
	l := &line{store: m.store}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	if m.tells {
		log = slog.New(slog.NewTextHandler(&m.logs, nil))
	}
	g := &modelGateway{
		Gateway: New(cfg, l, nil, nil, prometheus.NewRegistry(), log),
		line:    l, cancel: cancel, done: make(chan struct{}),
	}
	m.gateways[i] = g
	go func() {
		defer close(g.done)
		topic := g.topics.begin(ctx)
		if ctx.Err() == nil {
			g.serve(ctx, topic)
		}
	}()
}

// warmUp lets everything start.
func (m *model) warmUp() {
	for range 2 {
		for _, w := range m.writers {
			w.step()
		}
		time.Sleep(announceGrace)
		synctest.Wait()
	}
	for range 3 {
		for _, w := range m.writers {
			w.step()
		}
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// quiet waits until nothing moves any more, and lets clients read.
func (m *model) quiet(rng *rand.Rand) {
	synctest.Wait()
	for _, c := range m.conns {
		c.settle()
		select {
		case <-c.gw.done: // its process has ended, and the kernel with what it held
			c.sock.Close()
		default:
		}
		if rng.IntN(4) > 0 {
			c.read(1000)
		} else {
			c.read(rng.IntN(2))
		}
	}
	m.conns = slices.DeleteFunc(m.conns, func(c *modelConn) bool { return c.over })
	synctest.Wait() // for what their reading led to
}

func (m *model) trace(format string, args ...any) {
	if m.tells {
		m.story = append(m.story, fmt.Sprintf(format, args...))
	}
}

// tell returns all that happened, and what the gateways say of it.
func (m *model) tell() string { return strings.Join(m.story, "\n") + "\n\n" + m.logs.String() }

func (m *model) fail(format string, args ...any) {
	if m.failure == "" {
		m.failure = fmt.Sprintf(format, args...)
		m.trace("FAILS: %s", m.failure)
	}
}

func (m *model) ends() []int64 {
	ends := make([]int64, len(m.kafka))
	for p := range ends {
		ends[p] = int64(len(m.kafka[p]))
	}
	return ends
}

// note keeps the last cursors of a subscriber.
func (m *model) note(subscriber string, k *known) {
	all := append(m.cursors[subscriber], k)
	m.cursors[subscriber] = all[max(0, len(all)-8):]
}

// forgettable reports whether something was done for which a cursor's address may
// have been forgotten.
func (m *model) forgettable(cur *event.Cursor) bool {
	a := cur.Addr
	if cur.Old != (event.Address{}) {
		a = cur.Old
	}
	s := m.seats[a]
	if s == nil {
		return false
	}
	for _, end := range []time.Time{s.ended, s.gw.died} {
		if !end.IsZero() && time.Since(end) >= modelWindow-m.store.slack-2*presence.HeartbeatEvery {
			return true
		}
	}
	return s.gw.gaveUp(m.store, s.joined) || m.store.forgot(s)
}

// gaveUp reports whether the gateway may have sent all its clients away: it could
// not reach the store for too long, or for a while in which the store lost writes.
func (g *modelGateway) gaveUp(s *modelStore, joined time.Time) bool {
	lost := func(from, to time.Time) bool {
		return slices.ContainsFunc(s.losses, func(l loss) bool { return !l.up.Before(from) && !l.at.After(to) })
	}
	for _, l := range slices.Concat(s.losses, g.trouble) {
		from, to := l.at, l.up
		for _, other := range slices.Concat(s.losses, g.trouble) { // one after the other is one
			if !other.at.After(to.Add(presence.HeartbeatEvery)) && !other.up.Before(from.Add(-presence.HeartbeatEvery)) {
				from, to = minTime(from, other.at), maxTime(to, other.up)
			}
		}
		apart := to.Sub(from) + 2*presence.HeartbeatEvery
		if to.Add(3*presence.HeartbeatEvery).After(joined) && (apart > modelWindow || lost(from, to) && apart > announceGrace) {
			return true
		}
	}
	return false
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forgot reports whether the store lost a seat whose gateway could not tell it again,
// or had not yet when somebody came, who may have waited since.
func (s *modelStore) forgot(seat *seatRecord) bool {
	for _, l := range s.losses {
		told := l.up.Add(2 * presence.HeartbeatEvery)
		if !seat.joined.Before(l.since) && !seat.joined.After(l.up) &&
			(time.Now().Before(told.Add(modelWindow)) || !seat.gw.died.IsZero() && seat.gw.died.Before(told)) {
			return true
		}
	}
	return false
}

// heal ends all trouble and waits until every client has everything.
func (m *model) heal() {
	m.trace("healing")
	time.Sleep(max(0, time.Until(m.store.up)))
	for _, g := range m.gateways {
		g.line.cut(0)
	}
	for _, c := range m.conns {
		c.sock.stick(false)
	}
	m.zombies = nil
	synctest.Wait()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := 0; m.failure == ""; round++ {
		for _, w := range m.writers {
			for range 4 {
				w.step()
			}
		}
		time.Sleep(230 * time.Millisecond)
		m.quiet(rng)
		m.quiet(rng)
		done := true
		for i, cl := range m.clients {
			if cl.conn == nil {
				m.trace("%s connects", cl.name)
				m.connect(cl, m.gateways[i%len(m.gateways)], cl.saying(m))
				done = false
			} else if !cl.conn.done() {
				done = false
			}
		}
		if done || round > 400 {
			m.judge()
			return
		}
	}
}

// judge looks whether something is missing at the end, or comes too much.
func (m *model) judge() {
	time.Sleep(5 * time.Second)
	m.quiet(rand.New(rand.NewPCG(1, 2)))
	for _, cl := range m.clients {
		if cl.conn == nil || !cl.conn.greeted {
			m.fail("%s of %s can't connect", cl.name, cl.subscriber)
			continue
		}
		for p := range m.kafka {
			cl.conn.complete(p, int64(len(m.kafka[p])))
		}
	}
}

// stop ends all goroutines.
func (m *model) stop() {
	for _, g := range slices.Concat(m.gateways, m.dead) {
		g.line.die()
		g.cancel()
	}
	for _, c := range m.conns {
		c.sock.Close()
	}
	for _, g := range slices.Concat(m.gateways, m.dead) {
		<-g.done
	}
}

func (k *known) String() string {
	if k == nil {
		return "nothing"
	}
	return fmt.Sprintf("%v of seat %d at %.4s after seat %d at %.4s", k.cur.Next, k.cur.Addr.Seat, k.cur.Addr.Gateway, k.cur.Old.Seat, k.cur.Old.Gateway)
}

// brief tells what a message says.
func brief(m *wire.Message) string {
	var b strings.Builder
	b.WriteString(m.Type)
	if m.Type == wire.Hello {
		fmt.Fprintf(&b, ", resumed %t", m.Resumed)
	}
	for _, e := range m.Events {
		b.WriteString(" " + e.ID)
	}
	if m.Type == wire.Gap {
		fmt.Fprintf(&b, " %s %+v", m.Reason, m.Missing)
	}
	for _, text := range []string{m.Cursor, m.To} {
		if cur, err := event.ParseCursor(text); err == nil {
			fmt.Fprintf(&b, ", cursor %s", &known{cur: cur})
		}
	}
	return b.String()
}
