// Package feed produces events that tell whoever gets them what is missing: each
// belongs to a stream, in which it has a number, and says when it was produced. One
// stream is one key, so that its order is kept.
//
// A Feed answers over HTTP which events it produced in some time, and stops when it
// is told to, so that receivers can tell what they ought to have.
package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/topic"
)

// Config says what to produce.
type Config struct {
	Brokers []string
	Topic   string
	Run     string  // begins the names of streams
	Streams int     // 0 for one stream of events of the type Run, n for n users, by turns, neighbours far apart
	Rate    float64 // events a second, of all streams together
	Pad     int     // bytes of padding in an event
}

// User returns the user of a stream's events.
func User(run string, stream int) string { return run + "-" + strconv.Itoa(stream) }

// Feed is the producer. Its methods may be called at the same time.
type Feed struct {
	cfg  Config
	out  *topic.Producer
	pad  string
	stop chan struct{}
	once sync.Once
	done chan struct{} // closed when all that was produced is acknowledged

	failed atomic.Int64
	acks   sync.WaitGroup

	mu   sync.Mutex
	sent [][]int64 // by stream, when each was produced, in Unix microseconds
}

// New returns a Feed. Run produces.
func New(cfg Config, log *slog.Logger) (*Feed, error) {
	out, err := topic.NewProducer(topic.Config{Brokers: cfg.Brokers, Topic: cfg.Topic}, prometheus.NewRegistry(), log)
	if err != nil {
		return nil, err
	}
	return &Feed{
		cfg: cfg, out: out, pad: string(slices.Repeat([]byte{'x'}, cfg.Pad)),
		stop: make(chan struct{}), done: make(chan struct{}), sent: make([][]int64, max(cfg.Streams, 1)),
	}, nil
}

// Run produces until it is told to stop. What it was late with it makes up for.
func (f *Feed) Run(ctx context.Context) error {
	defer close(f.done)
	defer f.out.Close()
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	began, n, stride := time.Now(), 0, strideOf(len(f.sent))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.stop:
			f.acks.Wait()
			if failed := f.failed.Load(); failed > 0 {
				return fmt.Errorf("%d events were not acknowledged by Kafka", failed)
			}
			return nil
		case <-every.C:
		}
		for due := int(time.Since(began).Seconds() * f.cfg.Rate); n < due; n++ {
			f.produce(ctx, n*stride%len(f.sent))
		}
	}
}

// strideOf returns by how much each turn goes on, so that in part of a round any
// range of streams gets its part of the events: the golden section of n, or what is
// next to it and reaches all.
func strideOf(n int) int {
	stride := n * 618 / 1000
	for gcd(stride, n) > 1 || stride == 0 {
		stride++
	}
	return stride
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (f *Feed) produce(ctx context.Context, stream int) {
	at := time.Now().UnixMicro()
	f.mu.Lock()
	f.sent[stream] = append(f.sent[stream], at)
	seq := len(f.sent[stream])
	f.mu.Unlock()
	f.acks.Add(1)
	f.out.Produce(ctx, []byte(User(f.cfg.Run, stream)), f.event(stream, seq, at), nil, func(_ *kgo.Record, err error) {
		if err != nil {
			f.failed.Add(1)
		}
		f.acks.Done()
	})
}

func (f *Feed) event(stream, seq int, at int64) []byte {
	return fmt.Appendf(nil, `{"event_type":%q,"user_id":%q,"stream":%d,"seq":%d,"at_us":%d,"amount":12.5,"pad":%q}`,
		f.cfg.Run, User(f.cfg.Run, stream), stream, seq, at, f.pad)
}

// Stop ends Run and returns when Kafka has acknowledged everything.
func (f *Feed) Stop() {
	f.once.Do(func() { close(f.stop) })
	<-f.done
}

// Between returns the numbers of a stream's events that were produced from a time
// to another, in Unix microseconds; last is first - 1 if there were none.
func (f *Feed) Between(stream int, from, to int64) (first, last int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, _ = slices.BinarySearch(f.sent[stream], from)
	last, _ = slices.BinarySearch(f.sent[stream], to)
	return first + 1, max(last, first)
}

// Handler answers POST /stop, and POST /between with a list of [stream, from, to] by
// a list of [first, last].
func (f *Feed) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { f.Stop() })
	mux.HandleFunc("POST /between", f.between)
	return mux
}

func (f *Feed) between(w http.ResponseWriter, r *http.Request) {
	var asked [][3]int64
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, "want a list of [stream, from, to]: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer := make([][2]int, len(asked))
	for i, a := range asked {
		if a[0] < 0 || a[0] >= int64(len(f.sent)) {
			http.Error(w, fmt.Sprintf("stream %d: there are %d", a[0], len(f.sent)), http.StatusBadRequest)
			return
		}
		answer[i][0], answer[i][1] = f.Between(int(a[0]), a[1], a[2])
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}
