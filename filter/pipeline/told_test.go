package pipeline

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"eventstream/internal/bubble"
	"eventstream/internal/trouble"
)

// A store that is full for a while, while presence is read again and again, is one
// line, and one that it is over. That it was emptied is one line, too.
func TestFollowerTellsOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		f := newFollowing(t)
		f.log = slog.New(slog.NewTextHandler(&logs, nil))
		f.epochs = trouble.New(f.log, "no epoch", "epoch again")
		run := func() {
			f.doubt()
			if err := f.read(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		run()
		f.store.set(func(op string) error {
			if op == "epoch" {
				return errInjected
			}
			return nil
		}, nil)
		for began := time.Now(); time.Since(began) < 25*time.Second; {
			run()
		}
		f.store.up()
		run()
		f.memory.Wipe()
		run()
		run()
		for text, want := range map[string]int{"no epoch": 1, "epoch again": 1, "Redis was emptied": 1} {
			if got := strings.Count(logs.String(), text); got != want {
				t.Errorf("%d lines with %q, want %d:\n%s", got, text, want, logs.String())
			}
		}
		var m dto.Metric
		if err := f.emptied.Write(&m); err != nil || m.Counter.GetValue() != 1 {
			t.Errorf("the store was emptied %v times, %v; want 1", m.Counter.GetValue(), err)
		}
	})
}
