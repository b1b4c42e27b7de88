package ops

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"eventstream/internal/trouble"
)

// watchEvery is how often files are looked at, at most: when somebody asks.
const watchEvery = time.Second

// Watched is what was read from files, read again when they change. While what is there
// can't be used, the one before stays.
type Watched[T any] struct {
	what    string // it is, for the log
	files   []string
	read    func() (T, error)
	log     *slog.Logger
	trouble *trouble.Trouble

	mu      sync.Mutex
	value   T
	stamp   string    // of the files that were looked at last
	checked time.Time // when that was
}

// Watch reads files. what says what is in them, as in "the TLS certificate".
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

// Current returns the value, after a look at the files now and then. They are small and
// local: whoever asks may wait for them.
func (w *Watched[T]) Current() T { return w.current(time.Now()) }

// Reload looks at the files now.
func (w *Watched[T]) Reload() error {
	w.mu.Lock()
	w.checked = time.Time{}
	w.mu.Unlock()
	w.current(time.Now())
	return nil // it is logged
}

// look returns what tells a file from its successor.
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
	if err != nil { // looked at again: the other file may be about to follow
		w.trouble.Failed(err)
		return w.value
	}
	w.trouble.Worked()
	w.value, w.stamp = value, stamp
	w.log.Info(w.what+" was read again", "file", w.files[0])
	return value
}
