package pipeline

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"eventstream/internal/ops"
	"eventstream/internal/trouble"
)

// letters notices that nothing but dead letters comes: a producer has another format
// than ours, say. Each of them is dealt with, so that nothing else would tell.
type letters struct {
	trouble *trouble.Trouble
	run     atomic.Int64 // records in a row, of all partitions, that were no events
	why     atomic.Pointer[error]
}

// manyLetters is how many in a row are no accident.
const manyLetters = 50

func newLetters(log *slog.Logger) *letters {
	return &letters{trouble: trouble.NewError(log, "no record that comes is an event; all go to the dead-letter topic", "events come again")}
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
	n := l.run.Load()
	if n < manyLetters {
		return nil
	}
	return ops.Degraded(fmt.Errorf("the last %d records were no events, and went to the dead-letter topic; the last one: %w", n, *l.why.Load()))
}
