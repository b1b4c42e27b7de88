package cmd

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/internal/trouble"
	"eventstream/store"
)

// quotaFlags limit the filters of a subscriber and the size of requests.
type quotaFlags struct {
	Filters     int64 `env:"QUOTA_FILTERS" envDefault:"10000"`
	Values      int64 `env:"QUOTA_VALUES" envDefault:"200000"`
	Tried       int64 `env:"QUOTA_TRIED" envDefault:"10000"`
	Broad       int64 `env:"QUOTA_BROAD" envDefault:"100"`
	Bytes       int64 `env:"QUOTA_BYTES" envDefault:"16777216"`
	ImportBytes int64 `env:"IMPORT_BYTES" envDefault:"268435456"`
	DryRuns     int   `env:"DRY_RUNS" envDefault:"0"`
}

func (q *quotaFlags) add(fs *pflag.FlagSet) {
	fs.Int64Var(&q.Filters, "quota-filters", q.Filters, "filters of one subscriber; 0 for no limit, here and below")
	fs.Int64Var(&q.Values, "quota-values", q.Values, "values in all alternatives of a subscriber's filters")
	fs.Int64Var(&q.Tried, "quota-tried", q.Tried, "tests by suffix, contains, ne, not_in and exists false in all alternatives of a subscriber's filters")
	fs.Int64Var(&q.Broad, "quota-broad", q.Broad, "filters of one subscriber with match_all")
	fs.Int64Var(&q.Bytes, "quota-bytes", q.Bytes, "bytes of the JSON of a subscriber's filters")
	fs.Int64Var(&q.ImportBytes, "import-bytes", q.ImportBytes, "bytes of one import")
	fs.IntVar(&q.DryRuns, "dry-runs", q.DryRuns, "dry runs of much work at once; half of the CPUs if 0")
}

func (q *quotaFlags) check() error {
	if min(q.Filters, q.Values, q.Tried, q.Broad, q.Bytes, q.ImportBytes, int64(q.DryRuns)) < 0 {
		return usageError{errors.New("--quota-filters, --quota-values, --quota-tried, --quota-broad, --quota-bytes, --import-bytes and --dry-runs must be at least 0")}
	}
	return nil
}

func (q *quotaFlags) quota() filter.Quota {
	return filter.Quota{Filters: q.Filters, Values: q.Values, Tried: q.Tried, Broad: q.Broad, Bytes: q.Bytes}
}

// apply sets the limits of requests.
func (q *quotaFlags) apply(cfg *api.Config) {
	cfg.MaxImportBytes, cfg.MaxDryRuns = q.ImportBytes, q.DryRuns
	if q.ImportBytes == 0 {
		cfg.MaxImportBytes = 1<<63 - 1
	}
}

// countOld counts filters that were stored by versions without quotas.
func countOld(ctx context.Context, s *store.Postgres, log *slog.Logger) error {
	counting := trouble.New(log, "filters that are older than quotas can't be counted; retrying", "filters that are older than quotas can be counted again")
	n, err := s.CountOld(ctx)
	for err != nil && ctx.Err() == nil {
		counting.Failed(err, "in", 5*time.Second)
		if !pause(ctx, 5*time.Second) {
			return nil
		}
		var more int64
		more, err = s.CountOld(ctx)
		n += more
	}
	counting.Worked()
	if n > 0 {
		log.Info("filters that are older than quotas are counted now", "filters", n)
	}
	return nil
}
