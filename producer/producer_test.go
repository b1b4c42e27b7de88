package producer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
	"eventstream/topic"
)

var quiet = slog.New(slog.DiscardHandler)

// fakeSink acknowledges an event after some time.
type fakeSink struct {
	latency time.Duration
	fail    func(n int) error // of the nth event, from 0
	slots   chan struct{}     // blocks when full; never if nil

	mu    sync.Mutex
	times []time.Time
	wg    sync.WaitGroup
}

func (s *fakeSink) Produce(ctx context.Context, key, value []byte, _ []kgo.RecordHeader, done func(*kgo.Record, error)) {
	s.mu.Lock()
	n := len(s.times)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			done(nil, ctx.Err())
			return
		}
	}
	ack := func() {
		var err error
		if s.fail != nil {
			err = s.fail(n)
		}
		if s.slots != nil {
			<-s.slots
		}
		done(nil, err)
	}
	if s.latency == 0 {
		ack()
		return
	}
	s.wg.Add(1)
	time.AfterFunc(s.latency, func() {
		defer s.wg.Done()
		ack()
	})
}

func (s *fakeSink) Flush(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endlessEvents is a source without end or cost.
type endlessEvents struct{}

func (endlessEvents) Next() (Event, error) {
	return Event{Key: []byte("u"), Value: []byte(`{"event_type":"a"}`)}, nil
}

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		rate    float64
		count   int64
		jitter  time.Duration // how much too early an event may be
		elapsed time.Duration
	}{
		{rate: 1, count: 5, elapsed: 4 * time.Second},
		{rate: 0.1, count: 3, elapsed: 20 * time.Second},
		{rate: 30, count: 301, elapsed: 10 * time.Second},
		{rate: 1000, count: 5001, jitter: minWait, elapsed: 5 * time.Second},
		{rate: 100_000, count: 300_001, jitter: minWait, elapsed: 3 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				sink := &fakeSink{}
				began := time.Now()
				rep, err := Run(t.Context(), Config{Rate: tt.rate, Count: tt.count}, endlessEvents{}, sink, quiet)
				if err != nil || rep.Acked != tt.count || rep.Sent != tt.count || rep.Read != tt.count {
					t.Fatalf("got %+v, %v, want %d events", rep, err, tt.count)
				}
				if d := rep.Elapsed - tt.elapsed; d > 0 || d < -tt.jitter {
					t.Errorf("got %v, want %v", rep.Elapsed, tt.elapsed)
				}
				for i, at := range sink.times {
					want := time.Duration(float64(i) / tt.rate * float64(time.Second))
					if early := want - at.Sub(began); early > tt.jitter || early < -time.Microsecond {
						t.Fatalf("event %d: got it after %v, want %v", i, at.Sub(began), want)
					}
				}
			})
		})
	}
}

// A short delay is made up for, a long one isn't: it would end in a flood.
func TestPaceAfterADelay(t *testing.T) {
	for _, tt := range []struct {
		delay time.Duration
		want  float64 // events at the end of the second after the delay
	}{
		{500 * time.Millisecond, 250},
		{time.Minute, 200},
	} {
		bubble.Test(t, func(t *testing.T) {
			p := newPacer(100)
			for range 100 {
				p.wait(t.Context())
			}
			time.Sleep(tt.delay)
			end := time.Now().Add(time.Second)
			n := 100.0
			for {
				p.wait(t.Context())
				if time.Now().After(end) {
					break
				}
				n++
			}
			if math.Abs(n-tt.want) > 2 {
				t.Errorf("after %v: got %v events, want %v", tt.delay, n, tt.want)
			}
		})
	}
}

func TestRunStops(t *testing.T) {
	t.Run("after its duration", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			rep, err := Run(t.Context(), Config{Rate: 10, Duration: 5050 * time.Millisecond}, endlessEvents{}, &fakeSink{}, quiet)
			if err != nil || rep.Acked != 51 || rep.Read != 51 {
				t.Errorf("got %+v, %v, want 51 events", rep, err)
			}
		})
	})
	t.Run("when its context ends", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2050*time.Millisecond)
			defer cancel()
			rep, err := Run(ctx, Config{Rate: 10}, endlessEvents{}, &fakeSink{latency: time.Second}, quiet)
			if err != nil || rep.Acked != 21 || rep.Failed != 0 {
				t.Errorf("got %+v, %v, want 21 events, all acknowledged", rep, err)
			}
		})
	})
	t.Run("while its source blocks", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			in, w := io.Pipe()
			defer w.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go io.WriteString(w, `{"event_type":"a"}`+"\n")
			rep, err := Run(ctx, Config{}, NewReader(in), &fakeSink{}, quiet)
			if err != nil || rep.Acked != 1 {
				t.Errorf("got %+v, %v, want 1 event", rep, err)
			}
		})
	})
	t.Run("while its sink blocks", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			sink := &fakeSink{latency: time.Hour, slots: make(chan struct{}, 3)}
			rep, err := Run(ctx, Config{Grace: 10 * time.Second}, endlessEvents{}, sink, quiet)
			if err != nil || rep.Sent != 4 || rep.Acked != 0 || rep.Failed != 4 {
				t.Errorf("got %+v, %v, want 4 events, all failed", rep, err)
			}
			if !errors.Is(errors.Join(rep.Errors...), ErrUnknown) {
				t.Errorf("errors: got %v, want %v among them", rep.Errors, ErrUnknown)
			}
			time.Sleep(time.Hour) // lets the acks come, which are too late
		})
	})
	t.Run("when its source fails", func(t *testing.T) {
		broken := errors.New("the disk is gone")
		in := io.MultiReader(strings.NewReader(`{"event_type":"a"}`+"\n"), &failing{broken})
		rep, err := Run(t.Context(), Config{}, NewReader(in), &fakeSink{}, quiet)
		if !errors.Is(err, broken) || rep.Acked != 1 {
			t.Errorf("got %+v, %v, want 1 event and %v", rep, err, broken)
		}
	})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestEveryEventIsAccountedFor(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		if i%10 == 3 {
			text.WriteString("no event\n")
			continue
		}
		fmt.Fprintf(&text, `{"event_type":"a","user_id":"u%d"}`+"\n", i)
	}
	refused := errors.New("refused")
	sink := &fakeSink{latency: time.Millisecond, fail: func(n int) error {
		if n%9 == 0 {
			return refused
		}
		return nil
	}}
	rep, err := Run(t.Context(), Config{}, NewReader(strings.NewReader(text.String())), sink, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Read != 1000 || rep.Bad != 100 || rep.Sent != 900 || rep.Acked != 800 || rep.Failed != 100 {
		t.Errorf("got %+v, want 1000 read, 100 bad, 900 sent, 800 acked, 100 failed", rep)
	}
	if len(rep.Errors) != maxErrors {
		t.Errorf("got %d errors, want the first %d", len(rep.Errors), maxErrors)
	}
	if bad, ok := errors.AsType[*LineError](errors.Join(rep.Errors...)); !ok || bad.Line != 4 {
		t.Errorf("errors: got %v, want one of line 4", rep.Errors)
	}
}

func TestProgress(t *testing.T) {
	t.Run("on a terminal", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			cfg := Config{Rate: 100, Duration: 3500 * time.Millisecond, Terminal: &out}
			if _, err := Run(t.Context(), cfg, endlessEvents{}, &fakeSink{}, quiet); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(out.String(), "\r\x1b[K")
			if len(got) != 5 || got[4] != "" || !strings.HasPrefix(got[2], "2s  20") || !strings.HasSuffix(got[2], "/s") {
				t.Errorf("got %q, want three lines, one a second, and none left", got)
			}
		})
	})
	t.Run("in the log", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			if _, err := Run(t.Context(), Config{Rate: 100, Duration: 25 * time.Second}, endlessEvents{}, &fakeSink{}, log); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(out.String(), "msg=producing"); got != 2 {
				t.Errorf("got %d lines, want 2:\n%s", got, out.String())
			}
		})
	})
}

// Real brokers: all of it arrives, and the same user's events in order.
func TestRunToKafka(t *testing.T) {
	for name, brokers := range map[string]func(t *testing.T) (addrs []string, name string){
		"embedded": func(t *testing.T) ([]string, string) {
			b, err := topic.StartBroker(topic.EmbeddedConfig{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			return []string{b.Addr()}, "events"
		},
		"kafka": func(t *testing.T) ([]string, string) { return testenv.Kafka(t), testenv.Topic(t) },
	} {
		t.Run(name, func(t *testing.T) {
			addrs, events := brokers(t)
			cfg := topic.Config{Brokers: addrs, Topic: events, Partitions: 4}
			if _, err := topic.Ensure(t.Context(), cfg, quiet); err != nil {
				t.Fatal(err)
			}
			adm, err := kadm.NewOptClient(kgo.SeedBrokers(addrs...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				adm.DeleteTopic(context.Background(), cfg.DLQ())
				adm.Close()
			})
			p, err := topic.NewProducer(cfg, nil, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			const n = 5000
			rep, err := Run(t.Context(), Config{Count: n}, NewGenerator(1, 100), p, quiet)
			if err != nil || rep.Acked != n || rep.Failed != 0 {
				t.Fatalf("got %+v, %v, want %d acknowledged", rep, err, n)
			}
			ends, err := adm.ListEndOffsets(t.Context(), events)
			if err != nil {
				t.Fatal(err)
			}
			var total int64
			ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
			if total != n {
				t.Errorf("got %d events in the topic, want %d", total, n)
			}
		})
	}
}

func TestRunCountsWhatNobodyTakes(t *testing.T) {
	p, err := topic.NewProducer(topic.Config{Brokers: []string{testenv.Addr(t)}, DeliveryTimeout: time.Second}, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rep, err := Run(t.Context(), Config{Count: 10}, NewGenerator(1, 10), p, quiet)
	if err != nil || rep.Sent != 10 || rep.Failed != 10 || len(rep.Errors) != 10 {
		t.Errorf("got %+v, %v, want 10 failed", rep, err)
	}
}
