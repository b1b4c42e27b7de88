package history

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/internal/testenv"
	"eventstream/replay"
)

// Attempts that fail, and streams that are closed, do not count towards the limit while
// their client is still there. Past the limit a client is told to come again.
func TestStreamsAreCounted(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	srv := httptest.NewServer(replay.Handler(func(ctx context.Context, r replay.Request, w *replay.Writer) error {
		if full.Load() {
			return replay.Busy(time.Second, errors.New("full"))
		}
		return w.Begin(r.From, r.To, nil)
	}, nil, testenv.Log(t)))
	defer srv.Close()
	client, err := replay.NewClient([]string{srv.URL}, nil, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	k := NewKafka(client)
	open := func() (*Stream, error) {
		return k.Open(t.Context(), replay.Request{Subscriber: "user_1", From: []int64{0}, To: []int64{0}})
	}
	wantCount := func(want int64) {
		t.Helper()
		testenv.Eventually(t, 30*time.Second, func() error {
			if got := k.open.Load(); got != want {
				return fmt.Errorf("%d streams are counted, want %d", got, want)
			}
			return nil
		})
	}
	full.Store(true)
	for range 3 {
		if _, err := open(); !errors.Is(err, replay.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, replay.ErrUnavailable)
		}
	}
	wantCount(0)
	full.Store(false)
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	wantCount(1)
	k.open.Store(maxStreams)
	if _, err := open(); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("past the limit: got %v, want %v", err, replay.ErrUnavailable)
	}
	wantCount(maxStreams)
	s.Close()
	wantCount(maxStreams - 1)
}
