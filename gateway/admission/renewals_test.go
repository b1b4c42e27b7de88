package admission

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"eventstream/auth"
)

type noKeys struct{}

func (noKeys) Verify(context.Context, string) (auth.Claims, error) {
	return auth.Claims{}, auth.ErrNoKeysYet
}

// The queue of new tokens has a bound, and says so.
func TestRenewalsBound(t *testing.T) {
	r := NewRenewals(noKeys{}, NewRevocations(nil, time.Second, func(context.Context) {}, slog.New(slog.DiscardHandler)))
	for i := range maxRenewals {
		if err := r.Take(nil, "abc"); err != nil {
			t.Fatalf("token %d: %v", i, err)
		}
	}
	if err := r.Take(nil, "abc"); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("one more: %v, want to be asked to try again", err)
	}
}
