package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/uptime"
	"eventstream/internal/trouble"
	"eventstream/lane"
)

// reader reads the lanes of one shard of the subscribers, finds what is for this
// gateway's seats, and posts it to their workers. Unless it is the only one, it
// begins when the first of its subscribers comes.
type reader struct {
	gw    *Gateway
	index int
	shard lane.Shard
	past  *history.Lanes
	wish  chan struct{} // somebody needs it; capacity 1

	unreadable atomic.Bool // the lanes hold an entry that can't be read
	lost       atomic.Pointer[losses]
	trouble    *trouble.Trouble      // of reading
	garbled    *trouble.Trouble      // of what was read
	waits      atomic.Pointer[error] // why it can't begin, once somebody has asked for it; nil if it has, or nobody did
	heard      atomic.Int64          // when the lanes last answered, uptime; 0 if never

	mu     sync.Mutex         // held during a batch: a join falls between two
	tail   context.CancelFunc // ends the reading under way
	next   []int64            // positions: every event below has been posted; replaced, never changed; nil before start
	began  []int64            // where it started
	broke  []int64            // where it was when reading first failed since BrokeAt; nil if it did not
	synced []lane.ControlID
	ends   []int64 // of the partitions in Kafka at some time before: what is below was produced by then
	beats  []beat
	news   chan struct{} // closed when positions came, or it started

	followMu sync.Mutex
	follow   map[event.Gateway]map[event.Seat][]event.Seat // old seats, and ours that resumed from them

	// Only run touches these.
	unpacker lane.Unpacker
	seats    []event.Seat
	posts    []post // by worker
}

// beat is what a partition's position showed last, and since when.
type beat struct {
	value int64
	at    time.Time
}

func newReader(gw *Gateway, index int, sh lane.Shard, partitions int32) *reader {
	r := &reader{
		gw: gw, index: index, shard: sh,
		trouble: trouble.New(gw.log.With("shard", sh.String()), "reading lanes failed; retrying", "reading lanes works again"),
		garbled: trouble.NewError(gw.log.With("shard", sh.String()), "what is in a lane can't be understood", "what is in the lanes can be understood again"),
		past:    history.NewLanes(gw.lanes, sh, history.Config{RingBytes: gw.cfg.RingBytes, SkipMalformed: gw.cfg.SkipMalformed, Timeout: gw.cfg.timeout}),
		wish:    make(chan struct{}, 1), news: make(chan struct{}),
		synced: make([]lane.ControlID, partitions), ends: make([]int64, partitions),
		follow: make(map[event.Gateway]map[event.Seat][]event.Seat),
	}
	if sh.Of == 1 {
		r.wish <- struct{}{}
	}
	return r
}

// run begins when it is asked to, and reads until ctx ends. A store that fails is
// asked again.
func (r *reader) run(ctx context.Context) error {
	select {
	case <-r.wish:
	case <-ctx.Done():
		return nil
	}
	r.begin(ctx)
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		began := time.Now()
		err, grown := r.read(ctx)
		if ctx.Err() != nil {
			break
		}
		if grown {
			r.gw.presence.Sure(ctx, time.Now()) // it may have failed at the same time
			continue
		}
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		r.failed()
		r.trouble.Failed(err, "in", wait)
		failed := time.Now()
		uptime.Sleep(ctx, wait)
		r.gw.presence.Sure(ctx, failed)
	}
	return nil
}

// read reads on from where the reader is. It ends when that failed, or when there are
// more partitions to be read.
func (r *reader) read(ctx context.Context) (err error, grown bool) {
	tail, stop := context.WithCancel(ctx)
	defer stop()
	r.mu.Lock()
	next := r.next
	r.tail = stop
	r.mu.Unlock()
	err = r.gw.lanes.Tail(tail, r.shard, next, func(b lane.Batch) error {
		err := r.batch(b)
		r.garbled.Saw(err)
		if err == nil {
			r.trouble.Worked()
		}
		return err
	})
	return err, tail.Err() != nil
}

// grow takes up the partitions that the topic was given, up to n of them, from their
// start on: those who are connected get what was written there before. Whoever was
// announced when a filter service began with them is addressed in them from there on;
// see Gateway.look for those who come later.
func (r *reader) grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= len(r.synced) {
		return
	}
	r.synced = append(r.synced, make([]lane.ControlID, n-len(r.synced))...)
	r.ends = position.Extend(r.ends, n)
	if r.next == nil {
		return // it begins with all of them
	}
	r.takeLocked(position.Extend(r.next, n))
	if r.tail != nil {
		r.tail()
	}
}

// takeLocked takes the partitions up that next has more than there were, and tells the
// workers where all are.
func (r *reader) takeLocked(next []int64) {
	for len(r.beats) < len(next) {
		r.beats = append(r.beats, beat{at: time.Now()})
	}
	r.past.Start(next)
	for _, s := range r.gw.workers {
		s.post(post{reader: r.index, next: next})
	}
	r.next = next
	close(r.news)
	r.news = make(chan struct{})
}

func (r *reader) failed() {
	r.gw.metrics.redisFailures.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broke == nil {
		r.broke = r.next
	}
}

// BrokeAt returns where the reader was when reading first failed since the last
// call, nil if it has not.
func (r *reader) BrokeAt() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	broke := r.broke
	r.broke = nil
	return broke
}

// Require has the lanes refuse what is matched with less of the control stream, and
// returns where they are.
func (r *reader) Require(ctx context.Context, synced lane.ControlID) ([]lane.Position, error) {
	return r.gw.lanes.Require(ctx, r.shard, r.partitions(), synced)
}

// begin waits until a filter service has taken up all lanes, and starts there.
func (r *reader) begin(ctx context.Context) {
	said := ""
	for ; ctx.Err() == nil; uptime.Sleep(ctx, retryEvery) {
		positions, err := r.claimed(ctx)
		if err == nil {
			r.start(positions)
			r.waits.Store(nil)
			if said != "" {
				r.gw.log.Info("lanes can be read", "shard", r.shard.String())
			}
			return
		}
		r.waits.Store(&err)
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			r.gw.log.Info("lanes can't be read yet; waiting", "shard", r.shard.String(), "err", err)
		}
	}
}

// claimed returns the positions, once there is one for each partition.
func (r *reader) claimed(ctx context.Context) ([]lane.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, r.gw.cfg.timeout)
	defer cancel()
	positions, err := r.gw.lanes.Positions(ctx, r.shard, r.partitions())
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(positions, func(p lane.Position) bool { return p.Next < 0 }) {
		return nil, errors.New("a filter service has yet to take up every partition")
	}
	return positions, nil
}

// start begins at the given positions.
func (r *reader) start(positions []lane.Position) {
	next := make([]int64, len(positions))
	for _, p := range positions {
		next[p.Partition] = p.Next
	}
	r.posts = make([]post, len(r.gw.workers))
	r.heard.Store(int64(uptime.Now()))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range positions {
		r.ends[p.Partition] = p.End
	}
	r.noteLost(positions)                          // for who joins
	r.began = position.Extend(next, len(r.synced)) // there may be more since
	r.takeLocked(r.began)
}

// partitions returns how many the topic has, as far as is known.
func (r *reader) partitions() int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int32(len(r.synced))
}

// started returns when the reader reads, which it makes it do.
func (r *reader) started(ctx context.Context) error {
	select {
	case r.wish <- struct{}{}:
	default:
	}
	for {
		r.mu.Lock()
		started, news := r.next != nil, r.news
		r.mu.Unlock()
		if started {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("start reading lanes of shard %s: %w", r.shard, ctx.Err())
		}
	}
}

// settled waits until all lanes are matched with what was announced up to at, and
// returns from where on that is so.
func (r *reader) settled(ctx context.Context, at lane.ControlID) ([]int64, error) {
	for {
		r.mu.Lock()
		synced, next, news := slices.MinFunc(r.synced, lane.ControlID.Compare), r.next, r.news
		r.mu.Unlock()
		if synced.Compare(at) >= 0 {
			return next, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait until the seat is known everywhere: %w", ctx.Err())
		}
	}
}

// unready tells why nobody can join, or "".
func (r *reader) unready() string {
	if heard := r.heard.Load(); heard == 0 {
		if r.shard.Of == 1 {
			return "waiting for the filter service to take up every partition"
		}
		return ""
	} else if r.unreadable.Load() {
		return "the lanes have an entry that can't be read; see the log, and --skip-malformed"
	} else if age := uptime.Now() - time.Duration(heard); age > r.gw.cfg.timeout {
		return fmt.Sprintf("the lanes have not answered for %s", age.Round(time.Second))
	}
	return ""
}

// stuck tells which partitions nobody has looked after for a while, or "", and whether
// that is so of all. A filter service shows every second that it does.
func (r *reader) stuck() (reason string, all bool) {
	if why := r.waits.Load(); why != nil {
		return fmt.Sprintf("subscribers of shard %s can't connect: %v", r.shard, *why), true
	}
	var quiet []int
	ages := r.ages()
	for p, age := range ages {
		if age > r.gw.cfg.stuck {
			quiet = append(quiet, p)
		}
	}
	if len(quiet) == 0 {
		return "", false
	}
	shard := ""
	if r.shard.Of > 1 {
		shard = " of shard " + r.shard.String()
	}
	return fmt.Sprintf("partition %d%s has not moved for %s: no filter service works on it, or the one that does can't reach Redis (%d of %d partitions)",
		quiet[0], shard, ages[quiet[0]].Round(time.Second), len(quiet), len(ages)), len(quiet) == len(ages)
}

// ages returns how long ago each partition was last seen to be looked after; nil
// before the start.
func (r *reader) ages() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		return nil
	}
	ages := make([]time.Duration, len(r.beats))
	for p, b := range r.beats {
		ages[p] = time.Since(b.at)
	}
	return ages
}

// Positions returns how far the reader has come. The slice must not be changed.
func (r *reader) Positions() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Origin is where the reader started; nil if it has not.
func (r *reader) Origin() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began
}

// join makes c known to its worker, following the seat it resumed from, at one
// point between two batches: from the returned live on, c gets every event
// that is addressed to it. What is below now was produced before; nil if that is so
// of nothing that live holds.
func (r *reader) join(c *conn) (live, now []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.resume != nil && c.resume.old != (event.Address{Gateway: r.gw.id, Seat: c.seat}) {
		r.followOld(c.resume.old, c.seat)
	}
	c.worker.tell(added{c})
	if position.Below(r.next, r.ends) >= 0 {
		now = position.Highest(r.next, r.ends)
	}
	return r.next, now
}

func (r *reader) followOld(old event.Address, seat event.Seat) {
	r.followMu.Lock()
	defer r.followMu.Unlock()
	if r.follow[old.Gateway] == nil {
		r.follow[old.Gateway] = make(map[event.Seat][]event.Seat)
	}
	r.follow[old.Gateway][old.Seat] = append(r.follow[old.Gateway][old.Seat], seat)
}

// unfollow ends that seat gets what is addressed to old.
func (r *reader) unfollow(old event.Address, seat event.Seat) {
	r.followMu.Lock()
	defer r.followMu.Unlock()
	seats := r.follow[old.Gateway]
	rest := slices.DeleteFunc(seats[old.Seat], func(s event.Seat) bool { return s == seat })
	if len(rest) > 0 {
		seats[old.Seat] = rest
		return
	}
	delete(seats, old.Seat)
	if len(seats) == 0 {
		delete(r.follow, old.Gateway)
	}
}

// batch posts what a batch holds for this gateway.
func (r *reader) batch(b lane.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trimmed(b.Positions)
	next := slices.Clone(r.next)
	var malformed error
	for i, e := range b.Entries {
		if err := r.entry(e, next); err != nil {
			malformed = r.malformed(e, next, err)
		}
		if malformed != nil { // what came before it counts
			b.Entries, b.Positions = b.Entries[:i], nil
			break
		}
	}
	r.unreadable.Store(malformed != nil)
	r.past.Add(b.Entries)
	for _, p := range b.Positions {
		if int(p.Partition) < len(next) {
			if p.Next < next[p.Partition] { // the store lost them: they are matched again, with those who came since
				r.past.Cut(p.Partition, next[p.Partition])
			}
			next[p.Partition] = max(next[p.Partition], p.Next)
			r.synced[p.Partition], r.ends[p.Partition] = p.Synced, p.End
			if b := &r.beats[p.Partition]; b.value != p.Beat {
				*b = beat{p.Beat, time.Now()}
			}
		}
	}
	r.next = next
	if lost := r.noteLost(b.Positions); lost != nil {
		r.tellLost(lost) // before events that come after it
	}
	p := post{reader: r.index, next: next}
	if len(b.Positions) > 0 {
		p.settled = slices.MinFunc(r.synced, lane.ControlID.Compare)
		close(r.news)
		r.news = make(chan struct{})
	}
	for i := range r.posts {
		p.deliveries, r.posts[i].deliveries = r.posts[i].deliveries, nil
		r.gw.workers[i].post(p)
	}
	r.heard.Store(int64(uptime.Now()))
	return malformed
}

// malformed deals with an entry that can't be read. To skip it would lose events without a
// word: so it is tried again, and calls for help, unless an operator wants it to count as
// trimmed.
func (r *reader) malformed(e lane.Entry, next []int64, err error) error {
	r.gw.metrics.malformed.Inc()
	for i := range r.posts { // a part of it may have been read
		r.posts[i].deliveries = slices.DeleteFunc(r.posts[i].deliveries, func(d delivery) bool {
			return d.msg.ID.Partition == e.Partition && d.msg.ID.Offset >= next[e.Partition]
		})
	}
	err = fmt.Errorf("lane entry %d of partition %d can't be read: %w", e.Last, e.Partition, err)
	if !r.gw.cfg.SkipMalformed {
		return err
	}
	r.gw.log.Error("skipping what can't be read", "err", err)
	r.missed(e.Partition, e.Last+1)
	next[e.Partition] = max(next[e.Partition], e.Last+1)
	return nil
}

// trimmed looks whether a lane was trimmed past our position.
func (r *reader) trimmed(positions []lane.Position) {
	for _, p := range positions {
		if int(p.Partition) < len(r.next) && p.First > r.next[p.Partition] {
			r.missed(p.Partition, p.First)
		}
	}
}

// missed sends all clients away because a lane was trimmed past our position, up
// to the given one: they come back with cursors from before.
func (r *reader) missed(partition int32, upTo int64) {
	r.gw.metrics.missed.Inc()
	r.gw.log.Error("events were trimmed before they were read; closing all connections",
		"lane", partition, "pos", r.next[partition], "first", upTo)
	r.past.Cut(partition, upTo)
	r.gw.closeAll("events are missing; reconnect")
}

// entry collects the deliveries of one entry.
func (r *reader) entry(e lane.Entry, next []int64) error {
	if int(e.Partition) >= len(next) {
		return fmt.Errorf("partition %d of a topic that has %d", e.Partition, len(next))
	}
	if e.After > next[e.Partition] {
		r.missed(e.Partition, e.After)
	}
	r.followMu.Lock()
	defer r.followMu.Unlock()
	u := &r.unpacker
	u.Open(e.Blob)
	wanted := r.wanted(u.Gateways)
	for u.Next() {
		if u.Offset < next[e.Partition] {
			continue // the store lost writes and was filled again: we had this
		}
		if !wanted {
			continue
		}
		r.seats = r.seats[:0]
		for g, seats := range u.Groups() {
			r.collect(u.Gateways[g], seats)
		}
		if len(r.seats) > 0 {
			id := event.ID{Partition: e.Partition, Offset: u.Offset}
			r.deliver(id, u)
		}
	}
	if u.Err() != nil {
		return u.Err()
	}
	next[e.Partition] = max(next[e.Partition], e.Last+1)
	return nil
}

// wanted reports whether an entry can have recipients here.
func (r *reader) wanted(gateways []event.Gateway) bool {
	return slices.ContainsFunc(gateways, func(g event.Gateway) bool { return g == r.gw.id || r.follow[g] != nil })
}

// collect adds our seats among those of one gateway's group.
func (r *reader) collect(g event.Gateway, encoded lane.Seats) {
	follow := r.follow[g]
	if g != r.gw.id && follow == nil {
		return
	}
	first := len(r.seats)
	r.seats = encoded.Append(r.seats)
	all := r.seats[first:]
	if follow == nil {
		return
	}
	var more []event.Seat
	for _, seat := range all {
		more = append(more, follow[seat]...)
	}
	if g != r.gw.id {
		r.seats = r.seats[:first] // their numbers mean nothing here
	}
	r.seats = append(r.seats, more...)
}

// deliver adds one event to the posts of its recipients' workers.
func (r *reader) deliver(id event.ID, u *lane.Unpacker) {
	msg := history.NewEvent(id, u)
	n := event.Seat(len(r.posts))
	for i := range r.posts {
		r.posts[i].deliveries = append(r.posts[i].deliveries, delivery{msg: msg})
	}
	for _, seat := range r.seats {
		d := r.posts[seat%n].deliveries
		d[len(d)-1].seats = append(d[len(d)-1].seats, seat)
	}
	for i := range r.posts {
		if d := r.posts[i].deliveries; len(d[len(d)-1].seats) == 0 {
			r.posts[i].deliveries = d[:len(d)-1]
		}
	}
}
