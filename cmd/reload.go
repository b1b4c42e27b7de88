package cmd

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reloads rereads files at SIGHUP.
type reloads struct {
	signals chan os.Signal

	mu  sync.Mutex
	all []func() error
}

// catch makes SIGHUP reload instead of ending the process.
func (r *reloads) catch() {
	r.signals = make(chan os.Signal, 1)
	signal.Notify(r.signals, syscall.SIGHUP)
}

// add adds a function that rereads a file. If it returns an error, it must keep what it
// had read before.
func (r *reloads) add(read func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, read)
}

// run handles signals until ctx ends.
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
