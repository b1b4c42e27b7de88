package cmd_test

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/producer"
)

func amount(f float64) *float64 { return &f }

// specs are a dozen subscribers: by type, by tier, by amount, and by all three;
// and some by other attributes.
var specs = []filter.Spec{
	{SubscriberID: "purchases", EventTypes: []string{"purchase"}},
	{SubscriberID: "refunds", EventTypes: []string{"refund"}},
	{SubscriberID: "not-purchases", EventTypes: []string{"refund", "stock_adjustment", "login", "page_view"}},
	{SubscriberID: "nothing", EventTypes: []string{"no_such_type"}},
	{SubscriberID: "enterprise", UserTiers: []string{"enterprise"}},
	{SubscriberID: "guests-and-premium", UserTiers: []string{"guest", "premium"}},
	{SubscriberID: "from-100", MinAmount: amount(100)},
	{SubscriberID: "from-15.3", MinAmount: amount(15.3)},
	{SubscriberID: "from-0", MinAmount: amount(0)},
	{SubscriberID: "premium-purchases-from-50", EventTypes: []string{"purchase"}, UserTiers: []string{"premium"}, MinAmount: amount(50)},
	{SubscriberID: "free-refunds-from-20", EventTypes: []string{"refund"}, UserTiers: []string{"free"}, MinAmount: amount(20)},
	{SubscriberID: "all", MatchAll: true},
	{SubscriberID: "abroad", Where: filter.Where{
		"country": {NotIn: []filter.Scalar{filter.Text("United Kingdom")}},
		"amount":  {Between: []filter.Scalar{filter.Num(10), filter.Num(100)}},
		"sku":     {Prefix: new("2")},
	}},
	{SubscriberID: "two-days", Where: filter.Where{
		"timestamp": {Gte: new(filter.Text("2010-12-06T02:00:00+02:00")), Lt: new(filter.Text("2010-12-08T00:00:00Z"))},
	}},
	{SubscriberID: "german-or-many", EventTypes: []string{"purchase"}, Any: []filter.Where{
		{"country": {Eq: new(filter.Text("Germany"))}}, {"quantity": {Gt: new(filter.Num(99.5))}},
	}},
	{SubscriberID: "hearts", MatchAll: true, Where: filter.Where{"product": {Contains: new("HEART")}}},
	{
		SubscriberID: "expression", Expr: `event_type == "refund" || quantity > 50 && country != "United Kingdom"`,
		ExprAny: []filter.Where{
			{"event_type": {Eq: new(filter.Text("refund"))}},
			{"quantity": {Gt: new(filter.Num(50))}, "country": {Ne: new(filter.Text("United Kingdom")), Exists: new(true)}},
		},
	},
}

// TestRealEvents sends real events through the real servers, two filter services
// and two gateways, and compares what each socket received with a plain loop.
func TestRealEvents(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	file := eventFile(t)
	events := readSources(t, file)
	p.service("api")
	for _, s := range specs {
		p.addFilter(s)
	}
	p.service("filter")
	p.service("filter")
	gateways := []*process{p.service("gateway"), p.service("gateway")}
	listeners := make([]*listener, len(specs))
	for i, s := range specs {
		listeners[i] = p.listen(gateways[i%2], s.SubscriberID)
	}

	prod := p.start("producer", "--file", file)
	if code := prod.wait(2 * time.Minute); code != 0 {
		t.Fatalf("producer exited with %d:\n%s", code, prod.out.tail(20))
	}
	prod.says(fmt.Sprintf("%d acknowledged, 0 failed, 0 bad lines", len(events)), time.Second)
	for i, s := range specs {
		want := selected(events, s)
		listeners[i].wait(len(want), time.Minute)
		listeners[i].expect(s.SubscriberID, want)
	}
}

// eventFile returns the real events, or as many synthetic ones.
func eventFile(t *testing.T) string {
	if path, ok := testenv.Data(t); ok {
		return path
	}
	t.Log("no real events beside the repository: using synthetic ones")
	path := filepath.Join(t.TempDir(), "events.ndjson")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gen := producer.NewGenerator(1, 1000)
	for range 42_481 {
		ev, err := gen.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, "%s\n", ev.Value); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestReadYourWrites connects, or creates a filter, and then produces at once:
// nothing in between, no second try.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.service("api")
	p.service("filter")
	gateway := p.service("gateway")
	prod := p.producer()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			name := fmt.Sprint("s", i)
			mine := func(kind string) source {
				return parseSource(t, fmt.Appendf(nil, `{"event_id":"%s-%s","event_type":"%s-%s","user_id":"%s"}`, name, kind, kind, name, name))
			}
			p.addFilter(filter.Spec{SubscriberID: name, EventTypes: []string{"connected-" + name}})
			l := p.listen(gateway, name)
			connected := mine("connected")
			p.send(prod, connected)
			p.addFilter(filter.Spec{SubscriberID: name, EventTypes: []string{"filtered-" + name}})
			filtered := mine("filtered")
			p.send(prod, filtered)
			l.wait(2, 20*time.Second)
			l.expect(name, []source{connected, filtered})
		})
	}
	wg.Wait()
}

// TestKills kills each process, and Redis, while events flow. Nothing may be
// lost, and no client may see an event twice.
func TestKills(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.flow(2, append(specs[:6:6], filter.Spec{SubscriberID: "all", MatchAll: true}))
	f.continues("the start")
	for _, pr := range append(f.filters, append(f.gateways, f.api)...) {
		pr.kill()
		pr.restart()
		f.continues("kill -9 of " + pr.name)
	}
	p.redis.Kill()
	p.redis.Restart()
	f.continues("kill -9 of redis")
	f.filters[0].kill()
	f.gateways[0].kill()
	f.filters[1].kill()
	f.filters[0].restart()
	f.gateways[0].restart()
	f.continues("kill -9 of both filter services and a gateway")
	f.finish()
}

// TestRedisLost takes away all that Redis holds, while events flow: first it
// forgets everything and stays up, then it dies and comes back empty.
func TestRedisLost(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.flow(1, []filter.Spec{{SubscriberID: "purchases", EventTypes: []string{"purchase"}}, {SubscriberID: "all", MatchAll: true}})
	f.continues("the start")
	f.gateways[0].says("announcing all seats", 30*time.Second) // it knows which Redis this is
	p.flushRedis()
	f.continues("FLUSHALL")
	for _, pr := range slices.Concat(f.filters, f.gateways) { // it is told, and once
		testenv.Eventually(t, 30*time.Second, func() error {
			if got := metric(t, pr.addr, "eventstream_"+pr.name+"_redis_emptied_total"); got != "1" {
				return fmt.Errorf("%s counts %q times that Redis was emptied, want 1", pr.name, got)
			}
			return nil
		})
		if got := strings.Count(pr.out.String(), "Redis was emptied"); got != 1 {
			t.Errorf("%s says %d times that Redis was emptied, want 1", pr.name, got)
		}
	}
	p.flushRedis()
	p.redis.Kill()
	p.redis.Restart()
	f.continues("FLUSHALL and kill -9")
	f.finish()
}

func (p *pipeline) flushRedis() {
	p.t.Helper()
	c, err := net.Dial("tcp", p.redis.Addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "FLUSHALL\r\n")
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || answer != "+OK\r\n" {
		p.t.Fatalf("FLUSHALL: %q, %v", answer, err)
	}
}

// flow is a pipeline with listeners through which events flow.
type flow struct {
	p                 *pipeline
	api               *process
	filters, gateways []*process
	specs             []filter.Spec
	listeners         []*listener

	stop  chan struct{}
	again chan struct{} // has the producer made anew
	done  sync.WaitGroup
	sent  []source

	mu   sync.Mutex
	ends map[int32]int64 // offset of the last event sent, by partition
}

// flow starts n of each service, a listener for each filter, and a producer.
// The last filter must match all events.
func (p *pipeline) flow(n int, specs []filter.Spec) *flow {
	p.t.Helper()
	return p.flowThrough(n, specs, func() (gateways, doors []*process) {
		for range n {
			gateways = append(gateways, p.service("gateway"))
		}
		return gateways, gateways
	})
}

// flowThrough is flow with other gateways, and doors that lead to them.
func (p *pipeline) flowThrough(n int, specs []filter.Spec, open func() (gateways, doors []*process)) *flow {
	p.t.Helper()
	f := &flow{p: p, specs: specs, api: p.service("api"), stop: make(chan struct{}), again: make(chan struct{}), ends: make(map[int32]int64)}
	for _, s := range specs {
		p.addFilter(s)
	}
	for range n {
		f.filters = append(f.filters, p.service("filter"))
	}
	var doors []*process
	f.gateways, doors = open()
	for i, s := range specs {
		f.listeners = append(f.listeners, p.listen(doors[i%len(doors)], s.SubscriberID))
	}
	f.done.Go(f.produce)
	return f
}

// produce sends some 500 events a second, one after another.
func (f *flow) produce() {
	prod, gen := f.p.producer(), producer.NewGenerator(7, 100)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-f.again:
			prod = f.p.producer()
		case <-tick.C:
		}
		ev, err := gen.Next()
		if err != nil {
			f.p.t.Error(err)
			return
		}
		s := parseSource(f.p.t, ev.Value)
		id := f.p.send(prod, s)
		f.sent = append(f.sent, s)
		f.mu.Lock()
		f.ends[id.Partition] = id.Offset
		f.mu.Unlock()
	}
}

// continues waits until events arrive again.
func (f *flow) continues(after string) {
	f.p.t.Helper()
	all := f.listeners[len(f.listeners)-1]
	all.mu.Lock()
	n := len(all.events)
	all.mu.Unlock()
	f.p.t.Logf("after %s: %d events so far", after, n)
	all.wait(n+50, 60*time.Second)
}

// settles waits until something that is sent from now on has arrived from every
// partition.
func (f *flow) settles() {
	f.p.t.Helper()
	f.mu.Lock()
	ends := maps.Clone(f.ends)
	f.mu.Unlock()
	all := f.listeners[len(f.listeners)-1]
	testenv.Eventually(f.p.t, 60*time.Second, func() error {
		all.mu.Lock()
		defer all.mu.Unlock()
		for p, end := range ends {
			if got := all.last[p].offset; got <= end {
				return fmt.Errorf("partition %d arrived up to %d, want more than %d", p, got, end)
			}
		}
		return nil
	})
}

// paused logs the longest pause of delivery since it was last asked.
func (f *flow) paused(at string) {
	f.p.t.Helper()
	pause := f.listeners[len(f.listeners)-1].longest()
	f.p.t.Logf("%s: delivery of a partition paused for %v at most", at, pause.Round(time.Millisecond))
}

// finish stops the producer and checks what everybody got.
func (f *flow) finish() {
	f.p.t.Helper()
	close(f.stop)
	f.done.Wait()
	for i, s := range f.specs {
		want := selected(f.sent, s)
		f.listeners[i].wait(len(want), 30*time.Second)
		f.listeners[i].expect(s.SubscriberID, want)
	}
	all := f.listeners[len(f.listeners)-1]
	f.p.t.Logf("%d events", len(f.sent))
	if n := all.client.Duplicates(); n > 0 {
		f.p.t.Errorf("%d events came again to a client that says what it has", n)
	}
}
