package presence

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/lane"
)

// newTest returns a Presence that does not run, with a store. It reads no lanes.
func newTest(store Store, cfg Config) *Presence {
	cfg.Gateway, cfg.Timeout = 7, 5*time.Second
	cfg.Readers = func() []Reader { return nil }
	cfg.Grow = func(context.Context) error { return nil }
	cfg.Failures, cfg.Emptied = prometheus.NewCounter(prometheus.CounterOpts{}), prometheus.NewCounter(prometheus.CounterOpts{})
	return New(store, cfg, nil, slog.New(slog.DiscardHandler))
}

// mute takes announcements, and does nothing with them.
type mute struct{ *lane.Memory }

func (mute) Announce(context.Context, lane.Announcement) (lane.ControlID, error) {
	return lane.ControlID{Ms: 1}, nil
}

// BenchmarkRetire is the gateway's own work for all that ends when a million seats are
// due at once, as after an outage of the store: seats wait for their connections, then
// to be taken out of the hash, then to be forgotten.
func BenchmarkRetire(b *testing.B) {
	b.Run("seats=1m", func(b *testing.B) {
		for b.Loop() {
			p := newTest(mute{lane.NewMemory()}, Config{ResumeWindow: time.Nanosecond})
			for range 1_000_000 {
				seat, err := p.Reserve("user_1")
				if err != nil {
					b.Fatal(err)
				}
				p.vacating = append(p.vacating, seat)
			}
			longest, retired := time.Duration(0), 0
			for ; len(p.vacating)+len(p.vacated) > 0; retired++ {
				began := time.Now()
				if err := p.retire(b.Context()); err != nil {
					b.Fatal(err)
				}
				longest = max(longest, time.Since(began))
			}
			b.ReportMetric(float64(longest.Microseconds())/1000, "ms/longest")
			b.ReportMetric(float64(retired), "rounds")
		}
	})
}
