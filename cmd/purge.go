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
	// purgeEvery is how often what is no longer needed is deleted, by one API for all,
	// however often they are started.
	purgeEvery = time.Hour
	purgeLook  = time.Minute     // how often each looks whether that is due
	purgeAgain = 5 * time.Minute // after something of it failed
)

// purger deletes what is no longer needed. Filters that were deleted are kept for longer
// than any filter service takes to notice.
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

// run purges until ctx ends, from when the tables are there.
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

// look purges if it is time to, and nobody else does.
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
	_, err = p.store.CountOld(ctx) // what an API that is not upgraded yet has stored
	p.tell(ctx, "filters_uncounted", err)
	well = well && err == nil
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // if we are stopping, it is due again soon
	defer stop()
	err = p.store.EndPurge(end, well, purgeEvery, purgeAgain)
	p.tell(ctx, "purges", err)
	if well && err == nil {
		p.last.SetToCurrentTime()
	}
}

// tell counts a failure, and logs it.
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
