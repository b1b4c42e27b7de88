package pipeline

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/internal/ops"
	"eventstream/internal/testenv"
)

func TestLetters(t *testing.T) {
	why := errors.New("no JSON")
	for _, tt := range []struct {
		name    string
		batches [][2]int // records, and how many of them were no events
		bad     bool
	}{
		{"nothing", nil, false},
		{"events", [][2]int{{100, 0}}, false},
		{"some are none", [][2]int{{100, 99}}, false},
		{"few", [][2]int{{49, 49}}, false},
		{"all", [][2]int{{50, 50}}, true},
		{"one by one", slices.Repeat([][2]int{{1, 1}}, 50), true},
		{"looks without records", [][2]int{{49, 49}, {0, 0}, {1, 1}, {0, 0}}, true},
		{"an event among them", [][2]int{{40, 40}, {11, 10}, {49, 49}}, false},
		{"events again", [][2]int{{60, 60}, {1, 0}}, false},
	} {
		l := newLetters(prometheus.NewCounter(prometheus.CounterOpts{}), slog.New(slog.DiscardHandler))
		for _, b := range tt.batches {
			l.note(b[0], b[1], why)
		}
		err := l.check()
		if bad := err != nil; bad != tt.bad || bad && (!ops.IsDegraded(err) || !errors.Is(err, why)) {
			t.Errorf("%s: %v, want degraded: %t", tt.name, err, tt.bad)
		}
	}
}

// A topic of which nothing is an event makes the service degraded, with the reason, until
// there is one.
func TestOnlyDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	s := w.start()
	w.produce(0, slices.Repeat([]string{"no event"}, manyLetters)...)
	w.produce(1, "none either")
	w.reaches(0, manyLetters)
	w.reaches(1, 1)
	testenv.Eventually(t, patience, func() error {
		if err := s.Ready(t.Context()); !ops.IsDegraded(err) || !strings.Contains(err.Error(), "not valid JSON") {
			return errors.Join(errors.New("not degraded"), err)
		}
		return nil
	})
	w.produce(1, `{"event_type":"a"}`)
	w.reaches(1, 2)
	w.ready(s)
}
