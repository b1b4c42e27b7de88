package check

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/topic"
)

// load produces events. It runs in phases: in each only a few users are active,
// in some nobody is, so that partitions fall idle while others are busy.
type load struct {
	check    *run
	producer *topic.Producer
	rng      *rand.Rand
	busy     sync.Mutex   // held while events are produced
	active   []int        // users of this phase
	renew    atomic.Bool  // the producer is to know the topic as it is now
	large    atomic.Int32 // faults that want large events
}

func newLoad(r *run) (*load, error) {
	l := &load{check: r, rng: r.plan.rng(streamLoad)}
	return l, l.open()
}

func (l *load) open() (err error) {
	brokers, name := l.check.cluster.Kafka()
	l.producer, err = topic.NewProducer(topic.Config{Brokers: brokers, Topic: name, DeliveryTimeout: flushLimit}, nil, slog.New(slog.DiscardHandler))
	return err
}

// flushLimit bounds how long Kafka may be away for events to be acknowledged.
const flushLimit = 2 * time.Minute

func (l *load) close() { l.producer.Close() }

// run produces until over ends, and then waits for what is under way, unless ctx
// ends.
func (l *load) run(ctx, over context.Context) error {
	const every = 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	began, phase := time.Now(), time.Now()
	due, sent := 0.0, 0
	for {
		select {
		case <-over.Done():
			return l.flush(ctx)
		case <-tick.C:
		}
		if time.Now().After(phase) {
			phase = time.Now().Add(between(l.rng, 500*time.Millisecond, 2500*time.Millisecond))
			l.active = l.drawActive()
		}
		due = min(l.check.cfg.Rate*time.Since(began).Seconds(), float64(sent)+l.check.cfg.Rate/10)
		n := max(0, int(math.Ceil(due))-sent)
		if err := l.some(ctx, n); err != nil {
			return err
		}
		sent += n
	}
}

// some produces so many events, if anybody is active.
func (l *load) some(ctx context.Context, n int) error {
	l.busy.Lock()
	defer l.busy.Unlock()
	if l.renew.CompareAndSwap(true, false) {
		if err := l.flush(ctx); err != nil {
			return err
		}
		l.close()
		if err := l.open(); err != nil {
			return err
		}
	}
	for ; n > 0 && len(l.active) > 0; n-- {
		if err := l.send(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hold waits until all events are acknowledged, and has no others be produced until
// goOn is called.
func (l *load) hold(ctx context.Context) (goOn func(), err error) {
	l.busy.Lock()
	if err := l.flush(ctx); err != nil {
		l.busy.Unlock()
		return nil, err
	}
	return sync.OnceFunc(l.busy.Unlock), nil
}

func (l *load) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	return l.producer.Flush(ctx)
}

// drawActive returns who is active in the next phase.
func (l *load) drawActive() []int {
	n := []int{0, 1, 2, 3, 3, users}[l.rng.IntN(6)]
	return l.rng.Perm(users)[:n]
}

// send produces one event.
func (l *load) send(ctx context.Context) error {
	r := l.check
	user := userID(l.active[l.rng.IntN(len(l.active))])
	more := ""
	if l.large.Load() > 0 && l.rng.IntN(100) == 0 {
		more = l.padding()
	}
	var headers []kgo.RecordHeader
	e, err := r.events.Send(&r.clock, func(n int) (value, means []byte) {
		i := l.draw(n, user, more)
		if value = i.plain(); r.cfg.Mapped {
			headers = i.headers()
			return i.mapped(), value
		}
		return value, value
	})
	if err != nil {
		return fmt.Errorf("event of our own: %w", err)
	}
	l.producer.Produce(ctx, []byte(user), e.Value, headers, func(rec *kgo.Record, err error) {
		if err == nil {
			r.events.Ack(e, r.clock.Now(), event.ID{Partition: rec.Partition, Offset: rec.Offset})
			r.flows.acked.moved()
		}
	})
	return nil
}

// maxPadding keeps an event below the megabyte that a Kafka takes by default.
const maxPadding = 1_000_000

// padding makes up a field that makes an event large.
func (l *load) padding() string {
	text := make([]byte, maxPadding/2+l.rng.IntN(maxPadding/2))
	for i := range text {
		text[i] = 'a' + byte(l.rng.IntN(26))
	}
	return `,"note":"` + string(text) + `"`
}

// item is an event as it is made up. Its event_id is its number.
type item struct {
	n                               int
	kind, user, tier, country, more string
	amount                          float64
	skus                            [2]int
}

func (l *load) draw(n int, user, more string) item {
	rng := l.rng
	return item{n: n, user: user, more: more, kind: pick(rng, eventTypes), tier: pick(rng, tiers), amount: rng.Float64() * 200,
		country: pick(rng, countries), skus: [2]int{rng.IntN(100), rng.IntN(100)}}
}

// plain is an event that calls everything as filters do.
func (i item) plain() []byte {
	return fmt.Appendf(nil,
		`{"event_id":"%d","event_type":%q,"user_id":%q,"user_tier":%q,"amount":%.2f,"country":%q,"items":[{"sku":"sku-%d"},{"sku":"sku-%d"}]%s}`,
		i.n, i.kind, i.user, i.tier, i.amount, i.country, i.skus[0], i.skus[1], i.more)
}

func pick[T any](rng *rand.Rand, of []T) T { return of[rng.IntN(len(of))] }
