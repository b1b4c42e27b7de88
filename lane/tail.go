package lane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"golang.org/x/sync/errgroup"
)

// Tail passes the entries of all lanes of a shard on as they come, those whose
// Last is below from of their partition left out, and about once per cfg.Block
// the positions, for which see Batch. A partition that the store knows nothing of
// has a Position with Next -1. Blobs belong to the receiver. One Batch is passed
// after the other.
//
// It ends with nil when ctx ended, otherwise with the error of the connection
// or of sink. To go on, call it again with the offsets that have been reached.
// Entries that a store that lost writes has been given again are not passed a
// second time, as they are of the same events. Entries that were trimmed before
// they were read are left out without a word: the receiver compares
// Position.First with how far it had come. Of another topic under the same keys
// nothing is noticed: ask Topic.
func (r *Redis) Tail(ctx context.Context, sh Shard, from []int64, sink func(Batch) error) error {
	if len(from) == 0 {
		<-ctx.Done()
		return nil
	}
	if err := r.tail(ctx, sh, from, sink); err != nil && ctx.Err() == nil {
		return fmt.Errorf("redis tail: %w", err)
	}
	return nil
}

// tail reads all lanes with one command on one connection. A node of a cluster
// refuses that for lanes of different slots: there each has its own.
func (r *Redis) tail(ctx context.Context, sh Shard, from []int64, sink func(Batch) error) error {
	c, err := r.open(ctx)
	if err != nil {
		return err
	}
	t := tail{Redis: r, client: c, shard: sh}
	all := make([]int32, len(from))
	for p := range from {
		all[p] = int32(p)
	}
	if !r.cluster {
		return t.run(ctx, all, from, sink)
	}
	var one sync.Mutex
	serial := func(b Batch) error {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return sink(b)
	}
	g, ctx := errgroup.WithContext(ctx)
	for p := range from {
		g.Go(func() error { return t.run(ctx, all[p:p+1], from[p:p+1], serial) })
	}
	return g.Wait()
}

// run reads lanes on one connection.
func (t tail) run(ctx context.Context, partitions []int32, from []int64, sink func(Batch) error) error {
	master := addrOf(t.client)
	t.dc, _ = t.client.Dedicate()
	defer t.dc.Close()
	// A read with a deadline doesn't notice that its context was cancelled.
	stop := context.AfterFunc(ctx, t.dc.Close)
	defer stop()

	t.reads.tails.Add(1)
	defer t.reads.tails.Add(-1)

	t.begin(partitions, from)
	for ctx.Err() == nil {
		batch, err := t.read()
		if err == nil && (len(batch.Entries) > 0 || len(batch.Positions) > 0) {
			err = sink(batch)
		}
		if err == nil && len(batch.Positions) > 0 && !t.cluster && addrOf(t.client) != master {
			err = errMasterChanged
		}
		if err != nil {
			t.reads.failed(err)
			return err
		}
	}
	return nil
}

// errMasterChanged reports that Sentinels have made another server the master. A
// connection to the one before may live on, and nothing new come over it.
var errMasterChanged = errors.New("redis has another master now")

// addrOf returns where the server of a client that has one is.
func addrOf(c rueidis.Client) string {
	for addr := range c.Nodes() {
		return addr
	}
	return ""
}

// tail is the lanes that are read on one connection.
type tail struct {
	*Redis
	client rueidis.Client
	shard  Shard

	dc         rueidis.DedicatedClient
	partitions []int32
	keys       []string   // of their lanes
	ids        []string   // last entry read of each
	due        time.Time  // when positions are to be read
	held       []Position // read, but entries below Next may not be
	holds      []bool     // held[i] is set

	window int // entries to be asked for at most
	turn   int // the lane that is the first of the next read, where not all are read at once
	left   int // lanes that have to be asked before a read may wait for news from all of them
}

func (t *tail) begin(partitions []int32, from []int64) {
	n := len(partitions)
	t.partitions, t.keys, t.ids = partitions, make([]string, n), make([]string, n)
	t.held, t.holds = make([]Position, n), make([]bool, n)
	t.window, t.left = firstEntries, n
	for i, p := range partitions {
		t.keys[i] = t.laneKey(t.shard, p)
		t.ids[i] = offset(max(from[i], 0)) + "-0"
	}
}

// request is which lanes a read asks, and for how many entries of each.
type request struct {
	first, lanes int // from the first on, and after the last one the first of all
	count        int
}

// next chooses what to ask for. Whoever has nothing to catch up with asks all lanes: what
// they got since the last read is little. One that has may not ask more lanes than the
// bytes of an entry of each allow.
func (t *tail) next() request {
	n, all := min(t.reads.entries(t.reads.share()), t.window), len(t.keys)
	lanes := all
	if t.left > 0 {
		lanes = min(n, all)
	}
	count := max(n/lanes, 1)
	if t.cfg.ReadCount > 0 {
		count = min(count, t.cfg.ReadCount)
	}
	return request{t.turn, lanes, count}
}

// read makes one round. A round that reads positions doesn't wait for entries:
// the positions would wait with it.
func (t *tail) read() (Batch, error) {
	q := t.next()
	wait := time.Until(t.due).Milliseconds()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(max(wait, 0))*time.Millisecond+t.reads.timeout())
	defer cancel()
	keys, ids := t.keys, t.ids
	if q.lanes < len(t.keys) {
		keys, ids = make([]string, q.lanes), make([]string, q.lanes)
		for i := range q.lanes {
			at := (q.first + i) % len(t.keys)
			keys[i], ids[i] = t.keys[at], t.ids[at]
		}
	}
	count := t.dc.B().Xread().Count(int64(q.count))
	if wait > 0 && t.left == 0 {
		return t.batch(q, t.dc.Do(ctx, count.Block(wait).Streams().Key(keys...).Id(ids...).Build()))
	}
	xread := count.Streams().Key(keys...).Id(ids...).Build()
	if wait > 0 {
		return t.batch(q, t.dc.Do(ctx, xread))
	}
	commands := make(rueidis.Commands, 0, len(t.keys)+1)
	for _, p := range t.partitions {
		commands = append(commands, t.readPosition(t.dc.B(), t.shard, p))
	}
	results := t.dc.DoMulti(ctx, append(commands, xread)...)
	t.due = time.Now().Add(t.cfg.Block)
	for i, res := range results[:len(t.keys)] {
		pos, err := parsePosition(t.shard, t.partitions[i], res)
		if err != nil {
			return Batch{}, err
		}
		t.held[i], t.holds[i] = pos, true
	}
	return t.batch(q, results[len(t.keys)])
}

// batch takes the answer to an XREAD. A lane that gave fewer entries than were
// asked for has none left that is older than the request, so that its held
// position may go. That holds for a read that waited, too: it waited because no
// lane had any.
func (t *tail) batch(q request, res rueidis.RedisResult) (Batch, error) {
	lanes, err := streams(res)
	if err != nil {
		return Batch{}, err
	}
	var out Batch
	full := false
	for i := range q.lanes {
		i = (q.first + i) % len(t.keys)
		entries := lanes[t.keys[i]]
		for j := range entries {
			e, id, err := parseEntry(t.partitions[i], &entries[j])
			if err != nil {
				return Batch{}, err
			}
			out.Entries = append(out.Entries, e)
			t.ids[i] = id
		}
		full = full || len(entries) == q.count
		if t.holds[i] && len(entries) < q.count {
			out.Positions = append(out.Positions, t.held[i])
			t.holds[i] = false
		}
	}
	t.turn = (q.first + q.lanes) % len(t.keys)
	t.pace(q, full, t.reads.saw(out.Entries))
	return out, nil
}

// pace has the next reads ask for more as long as there is more, and that is not too much.
func (t *tail) pace(q request, full bool, bytes int) {
	much := bytes > t.reads.share()/2
	switch {
	case full && much:
		t.left = len(t.keys)
	case full:
		t.window = min(2*t.window, max(mostEntries, len(t.keys)))
	default:
		t.window = firstEntries
		t.left = max(0, t.left-q.lanes)
	}
}
