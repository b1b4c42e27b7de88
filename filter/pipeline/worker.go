package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/watchdog"
	"eventstream/lane"
	"eventstream/topic"
)

// worker does one partition: it takes what waits, matches it, and appends the
// matches to the partition's lane. Redis, not the Kafka commit, says how far the
// partition is done; an error ends the worker, and the next one asks again.
type worker struct {
	*Service
	*assignment
	log      *slog.Logger
	pulse    *watchdog.Part
	next     int64          // every offset below is done
	claimed  bool           // next is known
	end      int64          // of the partition, when it was claimed
	fetched  bool           // records came since then
	lost     lane.Loss      // what Kafka lost last, as far as it was told of
	skips    lane.Skips     // what is to be passed over, as the lane knows it
	ranges   []lane.Skip    // the same
	blind    bool           // the partition has no leader: it stays at next until it has one
	synced   lane.ControlID // how far the control stream was read for this batch
	view     *view          // what the batch is matched with
	decoder  topic.Decoder
	resolver resolver
	packer   lane.Packer
	unsent   []topic.Letter // of the batch, not written yet
	unread   int            // of the batch, records that are no events
	why      error          // the last of them is none
}

// errRefused reports that the lane is where we left it, but was written with more
// of the control stream applied than we had: whoever did that has the partition
// now, or the control stream has lost its end.
var errRefused = errors.New("lane refuses us: it was written with later changes of routing applied")

// work is called for each assigned partition, and again when it has failed.
func (s *Service) work(ctx context.Context, p *topic.Partition) error {
	w := &worker{
		Service: s, assignment: s.assigned(ctx, p), log: s.log.With("lane", p.ID),
		pulse: s.watchdog.Loop(fmt.Sprintf("the worker of partition %d", p.ID)),
	}
	defer w.pulse.Done()
	err := w.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	w.failed(err)
	return err
}

func (w *worker) run(ctx context.Context) error {
	if err := w.claim(ctx); err != nil {
		return err
	}
	w.log.Debug("partition assigned", "pos", w.next)
	for {
		w.pulse.Beat()
		records, err := w.part.Next(ctx, w.cfg.VerifyEvery)
		if err != nil {
			return err // ctx ended
		}
		if moved, err := w.strayed(ctx, records); err != nil {
			return err
		} else if moved {
			continue
		}
		w.fetched = w.fetched || len(records) > 0
		began := time.Now()
		err = w.step(ctx, records)
		w.metrics.tell(&w.resolver.matcher)
		if err != nil {
			return err
		}
		if w.blind {
			if err := w.claim(ctx); err != nil {
				return err
			}
		}
		w.metrics.lag(w.part.ID, max(w.end, w.part.End(), w.next)-w.next)
		if len(records) > 0 {
			// Records that come while we wait share the next entry. The first
			// after a pause finds nobody waiting and goes at once.
			sleep(ctx, w.cfg.Interval-time.Since(began))
		}
	}
}

// claim asks Redis how far the partition is done and reads on from there. A
// store that knows nothing of it is filled from the retention window on, or from
// where we were if that is earlier.
//
// Of a partition without a leader nothing can be read, and nothing is written to it.
// Its lane is claimed nevertheless, where it is, and verified: readers learn that what
// comes after is matched with those who came meanwhile. Only where its lane would
// begin, if there is none, nobody knows.
func (w *worker) claim(ctx context.Context) error {
	at, err := w.sync(ctx)
	if err != nil {
		return err
	}
	in, blind, err := w.ask(ctx)
	if err != nil {
		return err
	}
	if !blind {
		if w.fresh.is(w.part.ID, w.cfg.Retention) {
			in.Since = in.Oldest
		}
		w.metrics.lag(w.part.ID, w.end-in.Since) // about, until we know where the lane is
	}
	start, done := in.Since, int64(-1)
	if w.claimed {
		done = w.next
	} else if p := w.position(); p > 0 { // by a worker before this one, which failed
		done = p
	}
	if blind {
		start = done
	} else if done >= 0 {
		start = min(start, done)
	}
	if err := w.announce(ctx, w.part.ID); err != nil {
		return w.storeFailed("announce the topic", err)
	}
	next, err := w.lanes.Claim(ctx, w.cfg.Shard, w.part.ID, w.topic.Load().ID, start, w.end)
	if err != nil {
		return w.storeFailed("claim lane", err)
	}
	if next < 0 {
		return fmt.Errorf("the lane of partition %d can't be begun: %w", w.part.ID, topic.ErrNoLeader)
	}
	if blind && !w.blind {
		w.log.Warn("no leader of the partition answers; its events wait, and the other partitions go on", "pos", next)
	} else if w.blind && !blind {
		w.log.Info("the partition has a leader again", "pos", next)
	}
	w.next, w.claimed, w.blind, w.fetched = next, true, blind, false
	w.sees(!blind)
	if _, err := w.readSkips(ctx); err != nil {
		return err
	}
	w.trim.begin(time.Now(), in.Since, next)
	if blind {
		w.part.Hold()
		return nil
	}
	if in.Top < next {
		if err := w.lose(ctx, lane.Loss{From: in.Top, To: next}); err != nil {
			return err
		}
	}
	if next < in.Oldest {
		if err := w.skip(ctx, in.Oldest, at); err != nil {
			return err
		}
	}
	w.part.SeekTo(w.next)
	if err := w.forgetSkips(ctx, in.Oldest); err != nil {
		return err
	}
	return w.passOver(ctx, at)
}

// rangeTimeout bounds how long a leader that does not answer holds a worker up: lanes
// that don't beat are taken for abandoned.
const rangeTimeout = 2 * time.Second

// ask asks Kafka about the partition alone. Without a leader, it is blind.
func (w *worker) ask(ctx context.Context) (in topic.Range, blind bool, err error) {
	defer w.pulse.Rest()()
	timeout, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	in, err = w.kafka.Range(timeout, w.part.ID, time.Now().Add(-w.cfg.Retention))
	if errors.Is(err, topic.ErrNoLeader) && ctx.Err() == nil {
		return topic.Range{}, true, nil
	}
	if err != nil {
		return in, false, fmt.Errorf("find where the partition begins and ends: %w", err)
	}
	w.end = in.End
	return in, false, nil
}

// skip gives up the events that Kafka does not have any more. The lane is
// complete only from there on, which tells readers of the gap.
func (w *worker) skip(ctx context.Context, oldest int64, at lane.ControlID) error {
	w.log.Error("Kafka's retention has passed the position: events are lost", "pos", w.next, "oldest", oldest, "lost", oldest-w.next)
	got, err := w.lanes.Append(ctx, lane.Append{
		Shard: w.cfg.Shard, Partition: w.part.ID, Topic: w.topic.Load().ID, Expect: w.next, Next: oldest, TrimBefore: oldest, Synced: at, End: w.kafkaEnd(), Skipped: w.skips,
	})
	if err != nil {
		return w.storeFailed("append to lane", err)
	}
	if got != oldest {
		return fmt.Errorf("lane moved to %d while it was claimed at %d", got, w.next)
	}
	w.next = oldest
	return nil
}

// strayed looks whether Kafka had what was to be read. If that is past its retention, the
// worker has moved, and the records are to be dropped: they are read again.
func (w *worker) strayed(ctx context.Context, records []*kgo.Record) (moved bool, err error) {
	at, ok := w.part.Strayed()
	switch {
	case !ok:
		return false, nil
	case at.Lost():
		return false, w.lose(ctx, lane.Loss{From: at.Log, To: at.Want})
	case w.next < at.Want && len(records) > 0 && records[0].Offset < at.Want:
		if err := w.step(ctx, records); err != nil { // they came before it
			return false, err
		}
	}
	return true, w.claim(ctx)
}

// lose tells readers that Kafka lost records, and gives their offsets again. What has
// such an offset now is not passed on: to everybody it is another event.
func (w *worker) lose(ctx context.Context, l lane.Loss) error {
	if l.To == w.lost.To && l.From >= w.lost.From {
		return nil
	}
	w.log.Error("Kafka lost records, and gives their offsets a second time: new events below our position are not passed on, which clients are told as a gap. "+
		"\"eventstream skip-lost\" makes an end of it", "pos", l.To, "end", l.From, "lost", l.To-l.From)
	if err := w.lanes.Lose(ctx, w.cfg.Shard, w.part.ID, w.topic.Load().ID, l); err != nil {
		return w.storeFailed("note what Kafka lost", err)
	}
	w.lost = l
	w.metrics.lost.Add(float64(l.To - l.From))
	return nil
}

// storeFailed is what follows from a call to the store that failed: it may have
// gone down, and come back without what was written last.
func (w *worker) storeFailed(doing string, err error) error {
	w.metrics.redisFailures.Inc()
	if !errors.Is(err, lane.ErrFull) {
		w.follower.doubt()
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// step matches records and appends what matched. Without records it verifies
// that the store still is where we left it: an idle partition whose last writes
// were lost would otherwise never be filled again.
func (w *worker) step(ctx context.Context, records []*kgo.Record) error {
	if err := w.look(ctx); err != nil { // after the batch, before the match: read your writes
		return err
	}
	at, view := w.synced, w.view
	w.packer.Reset()
	w.unread, w.why, w.unsent = 0, nil, w.unsent[:0]
	next, read := w.next, 0
	for _, r := range records {
		if r.Offset < next {
			continue
		}
		if s, ok := w.over(r.Offset); ok {
			next = max(next, s.From)
			break // what comes after it is read again
		}
		if topic.IsMark(r) {
			next = r.Offset + 1
			continue
		}
		if err := w.add(ctx, view, r); err != nil {
			// It is for later. What came before it need not wait. If nothing did, the lane is
			// verified: one that does not beat is taken for abandoned.
			_, ferr := w.finish(ctx, records, next, at)
			return errors.Join(err, ferr)
		}
		next = r.Offset + 1
		read++
		if w.packer.Len() >= w.cfg.MaxEntry || len(w.unsent) >= lettersAtOnce {
			if ok, err := w.finish(ctx, records, next, at); err != nil || !ok {
				return err
			}
		}
	}
	w.letters.note(read, w.unread, w.why)
	if next > w.next || len(records) == 0 {
		if ok, err := w.finish(ctx, records, next, at); err != nil || !ok {
			return err
		}
	}
	return w.passOver(ctx, at)
}

// lettersAtOnce is how many dead letters are waited for at once.
const lettersAtOnce = 1000

// finish writes the dead letters, and moves the partition to next. If one can't be written,
// what came before it need not wait.
func (w *worker) finish(ctx context.Context, records []*kgo.Record, next int64, at lane.ControlID) (ok bool, err error) {
	failed, err := w.writeLetters(ctx)
	if err == nil {
		return w.append(ctx, next, at)
	}
	w.packer.Reset()
	for _, r := range records {
		if r.Offset < w.next || r.Offset >= failed || topic.IsMark(r) {
			continue
		}
		if aerr := w.add(ctx, w.view, r); aerr != nil {
			return false, errors.Join(err, aerr)
		}
	}
	w.unsent = w.unsent[:0] // these are written already
	if failed > w.next {
		_, aerr := w.append(ctx, failed, at)
		err = errors.Join(err, aerr)
	}
	return false, err
}

// writeLetters writes the dead letters of the batch. It returns the offset of the first that
// could not be written. Those that we may not write are passed over.
func (w *worker) writeLetters(ctx context.Context) (failed int64, err error) {
	if len(w.unsent) == 0 {
		return 0, nil
	}
	defer func() {
		clear(w.unsent)
		w.unsent = w.unsent[:0]
	}()
	resume := w.pulse.Rest()
	w.dead.DeadLetters(ctx, w.unsent)
	resume()
	for _, l := range w.unsent {
		switch {
		case errors.Is(l.Err, topic.ErrDenied): // the events after it need not wait until we may
			w.letters.drop(l.Record, l.Err)
		case errors.Is(l.Err, topic.ErrNoDeadLetters):
			w.metrics.deadLettersOff.Inc()
		case l.Err != nil && err == nil:
			failed, err = l.Record.Offset, fmt.Errorf("dead letter of offset %d: %w", l.Record.Offset, l.Err)
		case l.Err == nil:
			w.metrics.deadLetters.Inc()
			w.letters.kept()
		}
	}
	return failed, err
}

// look takes up all that stands in the control stream now.
func (w *worker) look(ctx context.Context) error {
	at, err := w.sync(ctx)
	if err != nil {
		return err
	}
	if err := w.routes.understood(); err != nil {
		return err
	}
	w.synced, w.view = at, w.routes.view()
	return nil
}

// sync is follower's, which has a pulse of its own.
func (w *worker) sync(ctx context.Context) (lane.ControlID, error) {
	defer w.pulse.Rest()()
	return w.follower.sync(ctx)
}

// add matches one record. What is no event is a dead letter, and done only when that is
// written. It fails if that can't be told now.
func (w *worker) add(ctx context.Context, v *view, r *kgo.Record) error {
	data, ev, err := w.cfg.Source.Decode(ctx, &w.decoder, r, v.index.Paths())
	if errors.Is(err, topic.ErrNotYet) {
		return fmt.Errorf("offset %d: %w", r.Offset, err)
	}
	w.metrics.read.Inc()
	if errors.Is(err, topic.ErrTombstone) {
		w.metrics.tombstones.Inc()
		return nil
	}
	if err != nil {
		w.unsent = append(w.unsent, topic.Letter{Record: r, Stage: "decode", Cause: err})
		w.unread++
		w.why = err
		return nil
	}
	groups, seats := w.resolver.recipients(v, ev)
	if w.resolver.matcher.Effort() > costlyEffort {
		w.costly(r.Offset)
	}
	if seats > 0 {
		w.metrics.matched.Inc()
		w.metrics.routed.Add(float64(seats))
		w.packer.Add(r.Offset, r.Timestamp.UnixMilli(), data, groups)
	}
	return nil
}

// kafkaEnd returns an end of the partition that Kafka had since it was claimed: what
// is below was produced before now. An end from before may be that of records that
// Kafka has lost since.
func (w *worker) kafkaEnd() int64 {
	if w.fetched {
		return max(w.part.End(), 0)
	}
	return w.end
}

// append moves the partition to next, with the packed events. It returns false
// when the store was elsewhere: then nothing was appended and we go on from
// where the store is.
func (w *worker) append(ctx context.Context, next int64, at lane.ControlID) (ok bool, err error) {
	a := lane.Append{
		Shard: w.cfg.Shard, Partition: w.part.ID, Topic: w.topic.Load().ID,
		Expect: w.next, Next: next, TrimBefore: w.trim.before(time.Now(), w.next), Synced: at, End: w.kafkaEnd(), Skipped: w.skips,
	}
	if w.packer.Count() > 0 {
		a.Entry, a.Last = w.packer.Bytes(), w.packer.Last()
	}
	began := time.Now()
	got, err := w.lanes.Append(ctx, a)
	switch {
	case err != nil:
		return false, w.storeFailed("append to lane", err)
	case got == next:
	case got == lane.Unskipped:
		if _, err := w.readSkips(ctx); err != nil {
			return false, err
		}
		return false, w.claim(ctx)
	case got == w.next:
		return false, errRefused
	default:
		if got < 0 {
			w.log.Warn("the lane is gone from Redis; filling it again from Kafka", "pos", w.next)
		} else {
			w.log.Warn("lane is not where it was left; going on from there", "pos", w.next, "found", got)
		}
		if got < w.next {
			w.follower.behind(w.lastStep())
		}
		return false, w.claim(ctx)
	}
	w.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	w.trim.appended(len(a.Entry))
	w.packer.Reset()
	w.next = next
	w.part.Done(next)
	w.done(next, max(w.end, w.part.End()))
	return true, nil
}

const (
	// costlyEffort is what matching one event may take by index.Matcher.Effort: some
	// tens of milliseconds. The default quotas keep one subscriber below it, unless
	// the event itself has megabytes.
	costlyEffort = 64 << 20
	tellLogEvery = time.Minute // between two lines in the log of the same
)

// due reports whether the log is to be told again of what it was told of last at a time, and
// notes that it is.
func due(told *atomic.Int64) bool {
	now, last := time.Now().UnixNano(), told.Load()
	return now-last >= int64(tellLogEvery) && told.CompareAndSwap(last, now)
}

// costly tells of an event that took much work. It was matched as all others were:
// nothing is cut, as nobody may miss an event, or get one that a filter excludes.
func (w *worker) costly(offset int64) {
	w.metrics.costly.Inc()
	if !due(&w.toldCostly) {
		return
	}
	subscriber, conditions := w.routes.mostConditions()
	w.log.Warn("matching an event takes long; the filters stored are more than quotas of the API should allow",
		"offset", offset, "effort", w.resolver.matcher.Effort(), "subscriber", subscriber, "conditions", conditions)
}
