package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"eventstream/internal/ops"
	"eventstream/topic"
)

type keeping struct{ err error }

func (k *keeping) Keeps(context.Context) (time.Duration, error) { return time.Hour, k.err }

// Settings that we may not read are told, until we may. That Kafka is away tells nothing.
func TestSettings(t *testing.T) {
	denied := fmt.Errorf("configuration: %w", topic.ErrDenied)
	k := &keeping{}
	s := newSettings(k, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		name string
		err  error
		bad  bool
	}{
		{"well", nil, false},
		{"Kafka is away", topic.ErrNotRunning, false},
		{"denied", denied, true},
		{"Kafka is away since", errors.New("timeout"), true},
		{"well again", nil, false},
	} {
		k.err = tt.err
		if err := s.look(t.Context()); !errors.Is(err, tt.err) {
			t.Errorf("%s: look = %v", tt.name, err)
		}
		if err := s.check(t.Context()); tt.bad != errors.Is(err, topic.ErrDenied) || tt.bad != ops.IsDegraded(err) {
			t.Errorf("%s: check = %v, want degraded: %t", tt.name, err, tt.bad)
		}
	}
}
