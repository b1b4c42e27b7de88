package run

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"eventstream/internal/bubble"
)

func TestStopsInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var stopped []string
		var g Group
		for _, name := range []string{"producer", "filter", "gateway"} {
			g.Add(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				stopped = append(stopped, name)
				return nil
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if want := []string{"producer", "filter", "gateway"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestOneFailureStopsAll(t *testing.T) {
	var g Group
	boom := errors.New("boom")
	g.Add("waits", func(ctx context.Context) error { <-ctx.Done(); return nil })
	g.Add("is done early", func(context.Context) error { return nil })
	g.Add("fails", func(context.Context) error { return boom })
	if err := g.Run(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Run = %v, want %v", err, boom)
	}
}

func TestEndsWhenAllAreDone(t *testing.T) {
	var g Group
	g.Add("a", func(context.Context) error { return nil })
	if err := g.Run(t.Context()); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestStuckPart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		g := Group{Patience: time.Second}
		g.Add("stuck", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Run(ctx); !errors.Is(err, ErrStuck) {
			t.Errorf("Run = %v, want %v", err, ErrStuck)
		}
		close(release)
	})
}
