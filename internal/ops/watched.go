package ops

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"eventstream/internal/trouble"
)

// watchEvery is the minimum time between two looks at the files, which calls trigger.
const watchEvery = time.Second

// Watched is a value read from files, reread when they change. If the new files can't
// be used, the old value stays.
type Watched[T any] struct {
	what    string // the value's name, for the log
	files   []string
	read    func() (T, error)
	log     *slog.Logger
	trouble *trouble.Trouble

	mu      sync.Mutex
	value   T
	stamp   string    // of the files at the last look
	checked time.Time // when the last look was
}

// Watch reads files. what names their content, as in "the TLS certificate".
func Watch[T any](what string, files []string, read func() (T, error), log *slog.Logger) (*Watched[T], error) {
	w := &Watched[T]{what: what, files: files, read: read, log: log, checked: time.Now()}
	w.trouble = trouble.New(log, what+" in the files can't be used; the one before stays", what+" in the files can be used again")
	stamp, err := w.look()
	if err != nil {
		return nil, err
	}
	w.stamp = stamp
	w.value, err = read()
	return w, err
}

// Current returns the value. About once a second it looks at the files first, which are
// small and local: callers may wait for it.
func (w *Watched[T]) Current() T { return w.current(time.Now()) }

// Reload looks at the files now.
func (w *Watched[T]) Reload() error {
	w.mu.Lock()
	w.checked = time.Time{}
	w.mu.Unlock()
	w.current(time.Now())
	return nil // failures are logged
}

// look returns a stamp that changes when a file is replaced or modified.
func (w *Watched[T]) look() (stamp string, err error) {
	for _, name := range w.files {
		info, err := os.Stat(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", w.what, err)
		}
		stamp += fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

func (w *Watched[T]) current(now time.Time) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.checked) < watchEvery {
		return w.value
	}
	w.checked = now
	stamp, err := w.look()
	if err == nil && stamp == w.stamp {
		w.trouble.Worked()
		return w.value
	}
	var value T
	if err == nil {
		value, err = w.read()
	}
	if err != nil { // try again: the other file may be about to follow
		w.trouble.Failed(err)
		return w.value
	}
	w.trouble.Worked()
	w.value, w.stamp = value, stamp
	w.log.Info(w.what+" was read again", "file", w.files[0])
	return value
}
