//go:build linux

// Limits measures what the services are made on, bare, and the services beside it, in
// one run: Kafka's own producer and consumer, a loop that only consumes, loops of
// nothing but XADD and XREAD; and `eventstream producer`, `eventstream filter` from
// Kafka to Redis, and the reader of `eventstream gateway`. Each of ours is given as a
// fraction of its limit.
//
//	go run ./perf/limits
//
// Everybody works on the same events, one after the other. Processes whose turn it is
// not are stopped (SIGSTOP). The limit of the sockets is in `go test -run '^$' -bench
// Writes ./gateway`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

type config struct {
	events, filters, rounds int
	exe, out                string
	java                    []string // command that runs Kafka's tools; none if empty
}

func main() {
	cfg, err := flags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "limits:", err)
		os.Exit(1)
	}
}

func flags(args []string) (cfg config, err error) {
	fs := flag.NewFlagSet("limits", flag.ContinueOnError)
	fs.IntVar(&cfg.events, "events", 400_000, "events that everybody works on in a round")
	fs.IntVar(&cfg.filters, "filters", 10_000, "subscribers, with a filter each")
	fs.IntVar(&cfg.rounds, "rounds", 3, "how often each is measured, in turn")
	fs.StringVar(&cfg.exe, "exe", ".services/bin/eventstream-load", "our program")
	java := fs.String("java", "", "command that runs Kafka's own tools, as scripts/kafka-tools.sh prints it; without them if empty")
	fs.StringVar(&cfg.out, "out", filepath.Join("k6/results", "limits-"+time.Now().Format("20060102-150405")), "folder for logs and the table")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	cfg.java = strings.Fields(*java)
	switch {
	case cfg.events < 1000 || cfg.rounds < 1:
		err = errors.New("--events must be at least 1000, --rounds at least 1")
	case cfg.filters < 100:
		err = fmt.Errorf("--filters %d: want at least 100, of which an event can match ten", cfg.filters)
	}
	return cfg, err
}

func run(ctx context.Context, cfg config) error {
	w, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer w.close()
	t := newTable()
	for i := range cfg.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, cfg.rounds)
		if err := w.round(ctx, t); err != nil {
			return err
		}
	}
	text := t.markdown(cfg)
	fmt.Print(text)
	return os.WriteFile(filepath.Join(cfg.out, "summary.md"), []byte(text), 0o644)
}

// round measures each once. What one leaves is what the next works on.
func (w *world) round(ctx context.Context, t *table) error {
	w.hold(w.filter)
	if err := w.kafkaProducer(ctx, t, noMatch); err != nil {
		return err
	}
	w.release(w.filter)
	if err := w.done(ctx); err != nil { // not measured: after a stop of 6 s Kafka has to take it into its group again
		return err
	}
	w.hold(w.filter)
	if err := w.ourProducer(ctx, nil, noMatch); err != nil {
		return err
	}
	if err := w.mark(ctx, w.end()); err != nil {
		return err
	}
	if err := w.filters(ctx, t, filterNone); err != nil {
		return err
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	defer w.witness.CloseNow()
	from, err := w.positions(ctx)
	if err != nil {
		return err
	}
	w.hold(w.gateway)
	w.hold(w.filter)
	if err := w.ourProducer(ctx, t, tenMatches); err != nil {
		return err
	}
	if err := w.filters(ctx, t, filterTen); err != nil {
		return err
	}
	entries, err := w.xread(ctx, t, from)
	if err != nil {
		return err
	}
	if err := w.xadd(ctx, t, entries); err != nil {
		return err
	}
	if err := w.reader(ctx, t); err != nil {
		return err
	}
	if err := w.kafkaConsumer(ctx, t); err != nil {
		return err
	}
	return w.consume(ctx, t, from)
}
