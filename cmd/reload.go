package cmd

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reloads reads files again at SIGHUP, which ends no service.
type reloads struct {
	signals chan os.Signal

	mu  sync.Mutex
	all []func() error
}

// catch has SIGHUP end the process no more.
func (r *reloads) catch() {
	r.signals = make(chan os.Signal, 1)
	signal.Notify(r.signals, syscall.SIGHUP)
}

// add adds what is to be done. An error says what could not be read: then what was read
// before stays.
func (r *reloads) add(read func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, read)
}

// run does so until ctx ends.
func (r *reloads) run(ctx context.Context, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.signals:
		}
		r.mu.Lock()
		all := r.all
		r.mu.Unlock()
		failed := 0
		for _, read := range all {
			if err := read(); err != nil {
				failed++
				log.Error("a file can't be read again; what was read before stays", "err", err)
			}
		}
		log.Info("SIGHUP: files were read again", "failed", failed)
	}
}
