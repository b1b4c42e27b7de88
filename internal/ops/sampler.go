package ops

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	sampleEvery = time.Minute
	sampleOf    = 3 // lines of one kind in that time
)

// sampler logs events that clients can cause at any rate: a few lines a minute of each
// kind, and how many were left out. All are counted.
type sampler struct {
	log   *slog.Logger
	count *prometheus.CounterVec // by kind; may be nil

	mu    sync.Mutex
	kinds map[string]*sample
}

// sample counts the lines of a kind since began.
type sample struct {
	began   time.Time
	lines   int
	leftOut int
	level   slog.Level
	end     *time.Timer // logs how many were left out
}

func newSampler(log *slog.Logger, count *prometheus.CounterVec) *sampler {
	return &sampler{log: log, count: count, kinds: make(map[string]*sample)}
}

// add logs a line, or only counts it. There are few kinds.
func (s *sampler) add(kind string, level slog.Level, text string) {
	if s.count != nil {
		s.count.WithLabelValues(kind).Inc()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[kind]
	if k == nil {
		k = &sample{}
		s.kinds[kind] = k
	}
	if now := time.Now(); now.Sub(k.began) >= sampleEvery {
		s.flushLocked(kind, k)
		k.began, k.lines, k.level = now, 0, level
	}
	if k.lines < sampleOf {
		k.lines++
		s.log.Log(context.Background(), level, text, "kind", kind)
		return
	}
	if k.leftOut++; k.leftOut == 1 {
		k.end = time.AfterFunc(time.Until(k.began.Add(sampleEvery)), s.flush)
	}
}

// flush logs how many lines were left out.
func (s *sampler) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, k := range s.kinds {
		s.flushLocked(kind, k)
	}
}

func (s *sampler) flushLocked(kind string, k *sample) {
	if k.leftOut == 0 {
		return
	}
	k.end.Stop()
	s.log.Log(context.Background(), k.level, "lines like these were left out", "kind", kind, "left_out", k.leftOut)
	k.leftOut = 0
}

// httpErrors receives net/http's log.
type httpErrors struct{ to *sampler }

func (e httpErrors) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	kind, level := "other", slog.LevelWarn
	for _, k := range [...]struct {
		prefix, kind string
		level        slog.Level
	}{
		{"http: TLS handshake error", "tls", slog.LevelInfo},
		{"http: Accept error", "accept", slog.LevelError},
		{"http: panic serving", "panic", slog.LevelError},
	} {
		if strings.HasPrefix(text, k.prefix) {
			kind, level = k.kind, k.level
		}
	}
	e.to.add(kind, level, strings.TrimPrefix(text, "http: "))
	return len(line), nil
}

// LibraryLog receives a library's log: it logs warnings and errors a few times a
// minute, the rest at debug level.
type LibraryLog struct{ to *sampler }

// NewLibraryLog returns a LibraryLog for a library.
func NewLibraryLog(log *slog.Logger, name string) LibraryLog {
	return LibraryLog{newSampler(log.With("library", name), nil)}
}

// Debug logs at debug level.
func (l LibraryLog) Debug(format string, args ...any) { l.to.log.Debug(fmt.Sprintf(format, args...)) }

// Info logs at debug level, too.
func (l LibraryLog) Info(format string, args ...any) { l.Debug(format, args...) }

// Warn logs a warning, or only counts it.
func (l LibraryLog) Warn(format string, args ...any) {
	l.to.add("warning", slog.LevelWarn, fmt.Sprintf(format, args...))
}

// Error logs an error, or only counts it.
func (l LibraryLog) Error(format string, args ...any) {
	l.to.add("error", slog.LevelError, fmt.Sprintf(format, args...))
}
