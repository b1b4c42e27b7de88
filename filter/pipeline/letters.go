package pipeline

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/ops"
	"eventstream/internal/trouble"
)

// letters notices that nothing but dead letters comes: a producer has another format
// than ours, say. Each of them is dealt with, so that nothing else would tell.
type letters struct {
	trouble *trouble.Trouble
	run     atomic.Int64 // records in a row, of all partitions, that were no events
	why     atomic.Pointer[error]

	refused *trouble.Trouble
	denied  atomic.Pointer[error] // why those of late were not written; nil if they were
	dropped prometheus.Counter
}

const deniedLetters = "a record that is no event is passed over without a dead letter, as we may not write those"

// drop notes that a record is passed over. It stays in Kafka, at its offset.
func (l *letters) drop(r *kgo.Record, why error) {
	l.dropped.Inc()
	l.denied.Store(&why)
	l.refused.Failed(why, "partition", r.Partition, "offset", r.Offset)
}

// kept notes that a dead letter was written.
func (l *letters) kept() {
	l.denied.Store(nil)
	l.refused.Worked()
}

// manyLetters is how many in a row are no accident.
const manyLetters = 50

func newLetters(dropped prometheus.Counter, log *slog.Logger) *letters {
	return &letters{
		trouble: trouble.NewError(log, "no record that comes is an event", "events come again"),
		refused: trouble.NewError(log, deniedLetters, "dead letters are written again"),
		dropped: dropped,
	}
}

// note takes in how many records of a batch were no events, and why the last of them.
func (l *letters) note(records, dead int, why error) {
	if dead < records {
		if l.run.Load() > 0 {
			l.run.Store(0)
			l.trouble.Worked()
		}
		return
	}
	if dead == 0 {
		return
	}
	l.why.Store(&why)
	if l.run.Add(int64(dead)) >= manyLetters {
		l.trouble.Failed(why)
	}
}

// check is for readiness: no other process would find events in them.
func (l *letters) check() error {
	if why := l.denied.Load(); why != nil {
		return ops.Degraded(fmt.Errorf("%s: %w", deniedLetters, *why))
	}
	n := l.run.Load()
	if n < manyLetters {
		return nil
	}
	return ops.Degraded(fmt.Errorf("the last %d records were no events; the last one: %w", n, *l.why.Load()))
}
