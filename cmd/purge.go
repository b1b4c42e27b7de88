package cmd

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"eventstream/internal/trouble"
	"eventstream/store"
)

const (
	// purgeEvery is how often outdated rows are deleted. One API process does it for
	// all, however often processes restart.
	purgeEvery = time.Hour
	purgeLook  = time.Minute     // how often each process checks whether a purge is due
	purgeAgain = 5 * time.Minute // after a purge that failed in part
)

// purger deletes outdated rows. Deleted filters are kept for longer than any filter
// service takes to notice that they are deleted.
type purger struct {
	store *store.Postgres
	what  store.Purge
	log   *slog.Logger

	rows     *prometheus.CounterVec
	failures *prometheus.CounterVec
	last     prometheus.Gauge
	troubles map[string]*trouble.Trouble // by table
}

func newPurger(s *store.Postgres, what store.Purge, reg prometheus.Registerer, log *slog.Logger) *purger {
	f := promauto.With(reg)
	return &purger{
		store: s, what: what, log: log, troubles: make(map[string]*trouble.Trouble),
		rows: f.NewCounterVec(prometheus.CounterOpts{
			Name: "purged_rows_total", Help: "Rows deleted because they are no longer needed, by table.",
		}, []string{"table"}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "purge_failures_total", Help: "Times that such rows of a table could not be deleted, or that it was not known whether it is time to (table purges).",
		}, []string{"table"}),
		last: f.NewGauge(prometheus.GaugeOpts{
			Name: "purged_timestamp_seconds", Help: "When one of all APIs last deleted everything that is no longer needed, Unix seconds; 0 if that is not known.",
		}),
	}
}

// run waits until the tables exist, and then purges until ctx ends.
func (p *purger) run(ctx context.Context, tables <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-tables:
	}
	for {
		p.look(ctx)
		if !pause(ctx, purgeLook) {
			return nil
		}
	}
}

// look purges if a purge is due and no other process does it.
func (p *purger) look(ctx context.Context) {
	c, cancel := context.WithTimeout(ctx, purgeLook)
	defer cancel()
	due, last, err := p.store.TakePurge(c, purgeEvery)
	p.tell(ctx, "purges", err)
	if !last.IsZero() {
		p.last.Set(float64(last.Unix()))
	}
	if !due || err != nil {
		return
	}
	well := true
	for _, d := range p.what.Run(ctx, p.store) {
		p.rows.WithLabelValues(d.What).Add(float64(d.Rows))
		p.tell(ctx, d.What, d.Err)
		well = well && d.Err == nil
	}
	_, err = p.store.CountOld(ctx) // filters stored by an API that is not upgraded yet
	p.tell(ctx, "filters_uncounted", err)
	well = well && err == nil
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // also while stopping: an unfinished purge is then due again soon
	defer stop()
	err = p.store.EndPurge(end, well, purgeEvery, purgeAgain)
	p.tell(ctx, "purges", err)
	if well && err == nil {
		p.last.SetToCurrentTime()
	}
}

// tell counts and logs a failure.
func (p *purger) tell(ctx context.Context, table string, err error) {
	if ctx.Err() != nil {
		return
	}
	if p.troubles[table] == nil {
		p.troubles[table] = trouble.New(p.log.With("table", table), "what is no longer needed can't be deleted; retrying", "what is no longer needed can be deleted again")
	}
	p.troubles[table].Saw(err)
	if err != nil {
		p.failures.WithLabelValues(table).Inc()
	}
}
