package topic

import (
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/trouble"
)

// feed is the reader's side of a Partition: what it has told the client.
//
// A client has one fetch under way for each broker, of all the partitions that
// it knows then. A partition that it gets to know later, or fetches again after
// a pause, waits until that fetch returns: if the others have no records, for
// fetchMaxWait. Setting a position that the client already has ends the fetch
// and begins one with all partitions. That is a nudge.
type feed struct {
	p        *Partition
	fetching bool      // the client has it
	live     bool      // records came since the client has it, so it has a position
	paused   bool      // the client doesn't fetch it for now
	last     time.Time // when records came
	nudge    time.Time // when to nudge if no record came; zero for never
	nudges   int
	failures int       // in a row
	retry    time.Time // when to fetch again after a failure; zero for never
	said     time.Time // when the current failure was last logged
	trouble  *trouble.Trouble
}

// added notes that the client was given the partition. It first has to ask where
// the partition is, and tells nobody when it knows: so we nudge a few times.
func (f *feed) added(now time.Time) {
	f.fetching, f.retry = true, time.Time{}
	f.nudge, f.nudges = now.Add(nudgeAfter), 0
}

const (
	nudgeAfter = 20 * time.Millisecond
	maxNudges  = 3 // after 20, 80 and 320 ms
)

func (f *feed) nudged(now time.Time) {
	f.nudge = time.Time{}
	if f.nudges++; f.nudges < maxNudges {
		f.nudge = now.Add(nudgeAfter << (2 * f.nudges))
	}
}

func (f *feed) removed() { f.fetching, f.live, f.nudge = false, false, time.Time{} }

func (f *feed) arrived(now time.Time) {
	f.live, f.last, f.nudge, f.failures = true, now, time.Time{}, 0
	f.trouble.Worked()
}

// due tells whether a failure that goes on is to be logged: once a minute.
func (f *feed) due() bool {
	now := time.Now()
	if f.failures > 1 && now.Sub(f.said) < time.Minute {
		return false
	}
	f.said = now
	return true
}

// changes are what the client is to be told.
type changes struct {
	remove []int32
	resume []int32
	add    map[int32]kgo.Offset
	set    map[int32]kgo.EpochOffset
}

// reconcile makes the client fetch what is owned, from where it is wanted.
func (r *reader) reconcile() {
	now := time.Now()
	due := r.takeDue(now)
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = false
	var owned map[int32]*Partition
	if dirty || due {
		owned = maps.Clone(r.owned)
	}
	r.mu.Unlock()
	if !dirty && !due {
		return
	}
	ch := changes{add: make(map[int32]kgo.Offset), set: make(map[int32]kgo.EpochOffset)}
	for id, f := range r.feeds {
		if owned[id] != f.p {
			ch.remove, ch.resume = append(ch.remove, id), append(ch.resume, id)
			delete(r.feeds, id)
		}
	}
	for id, p := range owned {
		f := r.feeds[id]
		if f == nil {
			f = &feed{p: p, trouble: trouble.NewError(r.log.With("partition", p.ID), "the partition can't be read; retrying", "the partition is read again")}
			r.feeds[id] = f
		}
		r.plan(f, now, &ch)
	}
	r.apply(ch)
}

// plan adds what is to be changed for one partition.
func (r *reader) plan(f *feed, now time.Time, ch *changes) {
	id := f.p.ID
	at, seek, fetch, unpause := f.p.plan()
	position := kgo.EpochOffset{Epoch: -1, Offset: at}
	nudge := !f.nudge.IsZero() && !now.Before(f.nudge)
	if nudge {
		f.nudged(now)
	}
	if unpause {
		f.paused, nudge = false, f.live
		ch.resume = append(ch.resume, id)
	}
	switch {
	case !fetch:
		if f.fetching {
			ch.remove = append(ch.remove, id)
			f.removed()
		}
	case seek && f.live:
		ch.set[id] = position
	case seek: // a position set before the client has one would be ignored
		if f.fetching {
			ch.remove = append(ch.remove, id)
		}
		ch.add[id] = kgo.NewOffset().At(at)
		f.added(now)
	case nudge && f.fetching && r.othersIdle(f, now):
		ch.set[id] = position
	}
	if seek {
		r.m.seeks.Inc()
	}
}

// othersIdle reports whether the fetch under way may be one that waits for other
// partitions which have no records.
func (r *reader) othersIdle(f *feed, now time.Time) bool {
	fetching := false
	for _, other := range r.feeds {
		if other == f || !other.fetching || other.paused {
			continue
		}
		if now.Sub(other.last) < fetchMaxWait {
			return false
		}
		fetching = true
	}
	return fetching
}

// apply tells the client. Only the last steps begin fetches that may wait.
func (r *reader) apply(ch changes) {
	name := r.cfg.Topic
	if len(ch.resume) > 0 {
		r.cl.ResumeFetchPartitions(map[string][]int32{name: ch.resume})
	}
	if len(ch.remove) > 0 {
		r.cl.RemoveConsumePartitions(map[string][]int32{name: ch.remove})
	}
	if len(ch.set) > 0 {
		r.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{name: ch.set})
	}
	if len(ch.add) > 0 {
		r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{name: ch.add})
	}
}

// takeDue reports whether the time of any partition has come.
func (r *reader) takeDue(now time.Time) (due bool) {
	for _, f := range r.feeds {
		if !f.retry.IsZero() && !now.Before(f.retry) {
			f.retry = time.Time{}
			f.p.refetch(0)
			due = true
		}
		due = due || !f.nudge.IsZero() && !now.Before(f.nudge)
	}
	return due
}

// nextDue returns when the time of the next partition comes; zero for never.
func (r *reader) nextDue() (due time.Time) {
	for _, f := range r.feeds {
		for _, t := range []time.Time{f.retry, f.nudge} {
			if !t.IsZero() && (due.IsZero() || t.Before(due)) {
				due = t
			}
		}
	}
	return due
}

// pause stops fetching a partition whose queue is full. What the client has
// buffered of it is dropped, and fetched again later.
func (r *reader) pause(f *feed) {
	f.paused = true
	r.cl.PauseFetchPartitions(map[string][]int32{r.cfg.Topic: {f.p.ID}})
	r.m.pauses.Inc()
	if f.p.setPaused() {
		r.wake() // it was emptied meanwhile
	}
}
