package testenv

import (
	"io"
	"log/slog"
	"sync"
	"testing"
)

// Log returns a logger to t. What comes after the test's end is dropped: parts
// of what was tested may stop a moment later.
func Log(t testing.TB) *slog.Logger {
	w := &logWriter{t: t}
	t.Cleanup(w.stop)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type logWriter struct {
	mu sync.Mutex
	t  testing.TB // nil after its end
}

func (w *logWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t == nil {
		return io.Discard.Write(b)
	}
	w.t.Logf("%s", b[:max(0, len(b)-1)])
	return len(b), nil
}
