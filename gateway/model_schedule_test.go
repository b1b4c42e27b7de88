package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"eventstream/gateway/presence"
)

// action is one thing that happens. What it draws comes from its own seed, so
// that a schedule stays what it is when others are left out.
type action struct {
	kind int // of modelActions
	seed uint64
}

func (a action) rng() *rand.Rand { return rand.New(rand.NewPCG(a.seed, 7)) }

// modelActions are what can happen, and how often.
var modelActions = []struct {
	name   string
	weight int
	do     func(m *model, rng *rand.Rand)
}{
	{"produce", 28, (*model).produce},
	{"step", 40, (*model).stepWriter},
	{"cycle", 14, (*model).cycleWriter},
	{"moment", 14, func(m *model, rng *rand.Rand) { m.sleep(rng, time.Duration(1+rng.IntN(300))*time.Millisecond) }},
	{"while", 9, func(m *model, rng *rand.Rand) { m.sleep(rng, time.Duration(300+rng.IntN(3000))*time.Millisecond) }},
	{"window", 1, func(m *model, rng *rand.Rand) {
		m.sleep(rng, modelWindow+time.Duration(rng.IntN(5000))*time.Millisecond)
	}},
	{"long", 1, func(m *model, rng *rand.Rand) { m.sleep(rng, modelWindow+presence.ForgetMargin+5*time.Second) }},
	{"connect", 22, (*model).connectSome},
	{"drop", 8, (*model).drop},
	{"flap", 3, (*model).flap},
	{"stick", 5, (*model).stick},
	{"release", 4, (*model).release},
	{"sip", 3, (*model).sip},
	{"trim", 4, (*model).trim},
	{"grow", 2, (*model).grow},
	{"crash", 2, func(m *model, rng *rand.Rand) { m.replace(rng, true) }},
	{"drain", 1, func(m *model, rng *rand.Rand) { m.replace(rng, false) }},
	{"cut", 2, (*model).cut},
	{"restart", 3, (*model).restartWriter},
	{"zombie", 2, (*model).zombie},
	{"checkpoint", 6, func(m *model, _ *rand.Rand) { m.checkpoint() }},
	{"rollback", 3, (*model).rollback},
	{"wipe", 1, (*model).wipe},
}

// drawSchedule draws about a hundred actions.
func drawSchedule(seed uint64) []action {
	rng := rand.New(rand.NewPCG(seed, 3))
	total := 0
	for _, a := range modelActions {
		total += a.weight
	}
	plan := make([]action, 60+rng.IntN(80))
	for i := range plan {
		n, kind := rng.IntN(total), 0
		for ; n >= modelActions[kind].weight; kind++ {
			n -= modelActions[kind].weight
		}
		plan[i] = action{kind, rng.Uint64()}
	}
	return plan
}

func (m *model) do(a action) {
	m.trace("%s", modelActions[a.kind].name)
	modelActions[a.kind].do(m, a.rng())
}

func (m *model) produce(rng *rand.Rand) {
	p := rng.IntN(len(m.kafka))
	for range 1 + rng.IntN(3) {
		var to []string
		for _, s := range []string{"ann", "bob", "eve"} {
			if rng.IntN(3) > 0 {
				to = append(to, s)
			}
		}
		data := fmt.Sprintf(`"%d-%d %s"`, p, len(m.kafka[p]), strings.Repeat("x", rng.IntN(150)))
		m.trace("  %d-%d for %v", p, len(m.kafka[p]), to)
		m.kafka[p] = append(m.kafka[p], modelRecord{to, []byte(data), time.Now()})
	}
}

func (m *model) stepWriter(rng *rand.Rand) {
	if n := len(m.zombies); n > 0 && rng.IntN(4) == 0 {
		m.zombies[rng.IntN(n)].step()
		return
	}
	w := m.writers[rng.IntN(len(m.writers))]
	for range 1 + rng.IntN(3) {
		w.step()
	}
}

// cycleWriter lets a writer do a round, if it can.
func (m *model) cycleWriter(rng *rand.Rand) {
	w := m.writers[rng.IntN(len(m.writers))]
	for range 6 {
		w.step()
	}
}

func (m *model) sleep(rng *rand.Rand, d time.Duration) {
	m.trace("  %s", d)
	const often = 3 * time.Second // clients answer pings meanwhile
	for ; d > often; d -= often {
		time.Sleep(often)
		m.quiet(rng)
	}
	time.Sleep(d)
}

func (m *model) connectSome(rng *rand.Rand) {
	m.connectClient(m.clients[rng.IntN(len(m.clients))], rng)
}

// flap has a client come and go as fast as it can.
func (m *model) flap(rng *rand.Rand) {
	cl := m.clients[rng.IntN(len(m.clients))]
	for range 2 + rng.IntN(5) {
		m.connectClient(cl, rng)
		if rng.IntN(2) == 0 {
			m.quiet(rng)
		}
		if cl.conn != nil {
			cl.conn.end(rng.IntN(4))
		}
	}
}

func (m *model) connectClient(cl *modelClient, rng *rand.Rand) {
	gw := m.gateways[rng.IntN(len(m.gateways))]
	from := cl.last
	if rng.IntN(2) == 0 {
		from = cl.saying(m)
	}
	all := m.cursors[cl.subscriber]
	switch n := rng.IntN(10); {
	case n == 0:
		from = nil
	case n < 4 && len(all) > 0:
		from = all[rng.IntN(len(all))]
	}
	if cl.conn != nil {
		return
	}
	m.trace("  %s of %s connects to %s, from %s", cl.name, cl.subscriber, gw.id, from)
	m.connect(cl, gw, from)
}

// some returns one of the open connections, nil if there is none.
func (m *model) some(rng *rand.Rand) *modelConn {
	if len(m.conns) == 0 {
		return nil
	}
	return m.conns[rng.IntN(len(m.conns))]
}

func (m *model) drop(rng *rand.Rand) {
	if c := m.some(rng); c != nil {
		m.trace("  %s", c.client.name)
		c.end(rng.IntN(4))
	}
}

func (m *model) stick(rng *rand.Rand) {
	if c := m.some(rng); c != nil {
		m.trace("  %s", c.client.name)
		c.sock.stick(true)
	}
}

func (m *model) release(rng *rand.Rand) {
	if c := m.some(rng); c != nil {
		m.trace("  %s", c.client.name)
		c.sock.stick(false)
	}
}

func (m *model) sip(rng *rand.Rand) {
	if c := m.some(rng); c != nil {
		m.trace("  %s", c.client.name)
		c.sock.sip(1 + rng.IntN(2))
	}
}

// trim lets a lane be trimmed, with the next append.
func (m *model) trim(rng *rand.Rand) {
	p := rng.IntN(len(m.kafka))
	if w := m.writers[p]; w.next > m.trimmed[p] {
		m.trimmed[p] += 1 + rng.Int64N(w.next-m.trimmed[p])
	}
	m.trace("  partition %d below %d", p, m.trimmed[p])
}

// grow gives the topic another partition. Somebody else's worker may be the first to
// tell the gateways.
func (m *model) grow(rng *rand.Rand) {
	if len(m.kafka) == mostPartitions {
		return
	}
	m.kafka, m.trimmed, m.gone = append(m.kafka, nil), append(m.trimmed, 0), append(m.gone, 0)
	p := int32(len(m.kafka) - 1)
	m.trace("  partition %d", p)
	m.writers = append(m.writers, m.writer(p))
}

const mostPartitions = 5

// replace kills or stops a gateway, and starts another.
func (m *model) replace(rng *rand.Rand, kill bool) {
	i := rng.IntN(len(m.gateways))
	g := m.gateways[i]
	m.trace("  %s", g.id)
	g.died = time.Now()
	m.dead = append(m.dead, g)
	if kill {
		g.line.die()
		for _, c := range slices.Clone(m.conns) {
			if c.gw == g {
				c.end(rng.IntN(4))
			}
		}
	}
	g.cancel()
	m.launch(i, rng)
}

// cut takes the store from a gateway.
func (m *model) cut(rng *rand.Rand) {
	d := time.Duration(rng.IntN(4000)) * time.Millisecond
	if rng.IntN(8) == 0 {
		d += modelWindow
	}
	g := m.gateways[rng.IntN(len(m.gateways))]
	m.trace("  %s for %s", g.id, d)
	g.line.cut(d)
	g.trouble = append(g.trouble, loss{since: time.Now(), at: time.Now(), up: time.Now().Add(d)})
}

func (m *model) restartWriter(rng *rand.Rand) {
	p := rng.IntN(len(m.writers))
	m.writers[p] = m.writer(int32(p))
	m.trace("  partition %d: writer %d", p, m.writers[p].name)
}

// zombie has another writer take over from one that goes on.
func (m *model) zombie(rng *rand.Rand) {
	p := rng.IntN(len(m.writers))
	old := m.writers[p]
	old.zombie = true
	m.zombies = append(m.zombies, old)
	m.zombies = m.zombies[max(0, len(m.zombies)-2):]
	m.writers[p] = m.writer(int32(p))
	m.trace("  partition %d: writer %d beside %d", p, m.writers[p].name, old.name)
}

func (m *model) checkpoint() {
	if !m.store.down() {
		m.store.checkpoint()
	}
}

// outage is how long the store is away: longer than a filter service can
// overlook.
func outage(rng *rand.Rand) time.Duration {
	return time.Duration(300+rng.IntN(2500)) * time.Millisecond
}

const oldestRollback = 5 * time.Second

func (m *model) rollback(rng *rand.Rand) {
	if m.store.saved == nil || m.store.down() || time.Since(m.store.savedAt) > oldestRollback {
		return
	}
	m.store.rollback(outage(rng))
	m.trace("  to %s ago, down until %s", time.Since(m.store.savedAt), m.store.upAt().Sub(m.start))
	m.dropLines()
}

func (m *model) wipe(rng *rand.Rand) {
	if m.store.down() {
		return
	}
	m.store.wipe(outage(rng))
	m.trace("  down until %s", m.store.upAt().Sub(m.start))
	m.dropLines()
}

func (m *model) dropLines() {
	for _, g := range m.gateways {
		g.line.drop()
	}
}
