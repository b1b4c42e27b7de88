package lane

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// Tail passes the entries of all lanes of a shard on as they come, those whose Last is
// below from of their partition left out, and about once per cfg.Block the
// positions, for which see Batch. A partition that the store knows nothing of
// has a Position with Next -1. Blobs belong to the receiver.
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
	dc, _ := r.client.Dedicate()
	defer dc.Close()
	// A read with a deadline doesn't notice that its context was cancelled.
	stop := context.AfterFunc(ctx, dc.Close)
	defer stop()

	t := newTail(r, dc, sh, from)
	for ctx.Err() == nil {
		batch, err := t.read()
		if err == nil && (len(batch.Entries) > 0 || len(batch.Positions) > 0) {
			err = sink(batch)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("redis tail: %w", err)
		}
	}
	return nil
}

// tail is the state of one Tail call.
type tail struct {
	r     *Redis
	dc    rueidis.DedicatedClient
	shard Shard
	keys  []string   // of the lanes
	ids   []string   // last entry read, by partition
	count int        // entries of one lane per read
	due   time.Time  // when positions are to be read
	held  []Position // read, but entries below Next may not be
	holds []bool     // held[p] is set
}

func newTail(r *Redis, dc rueidis.DedicatedClient, sh Shard, from []int64) *tail {
	t := &tail{
		r: r, dc: dc, shard: sh,
		keys: make([]string, len(from)), ids: make([]string, len(from)),
		held: make([]Position, len(from)), holds: make([]bool, len(from)),
		count: r.cfg.ReadCount,
	}
	if t.count == 0 {
		t.count = min(max(256/len(from), 4), 64) // bounds a reply to about 16 MB
	}
	for p := range from {
		t.keys[p] = r.laneKey(sh, int32(p))
		t.ids[p] = offset(max(from[p], 0)) + "-0"
	}
	return t
}

// read makes one round. A round that reads positions doesn't wait for entries:
// the positions would wait with it.
func (t *tail) read() (Batch, error) {
	wait := time.Until(t.due).Milliseconds()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(max(wait, 0))*time.Millisecond+callTimeout)
	defer cancel()
	if wait > 0 {
		cmd := t.dc.B().Xread().Count(int64(t.count)).Block(wait).Streams().Key(t.keys...).Id(t.ids...).Build()
		return t.batch(t.dc.Do(ctx, cmd))
	}
	commands := make(rueidis.Commands, 0, len(t.keys)+1)
	for p := range t.keys {
		commands = append(commands, t.r.readPosition(t.dc.B(), t.shard, int32(p)))
	}
	commands = append(commands, t.dc.B().Xread().Count(int64(t.count)).Streams().Key(t.keys...).Id(t.ids...).Build())
	results := t.dc.DoMulti(ctx, commands...)
	t.due = time.Now().Add(t.r.cfg.Block)
	for p, res := range results[:len(t.keys)] {
		pos, err := parsePosition(t.shard, int32(p), res)
		if err != nil {
			return Batch{}, err
		}
		t.held[p], t.holds[p] = pos, true
	}
	return t.batch(results[len(t.keys)])
}

// batch takes the answer to an XREAD. A lane that gave fewer entries than were
// asked for has none left that is older than the request, so that its held
// position may go. That holds for a read that waited, too: it waited because no
// lane had any.
func (t *tail) batch(res rueidis.RedisResult) (Batch, error) {
	lanes, err := streams(res)
	if err != nil {
		return Batch{}, err
	}
	var out Batch
	for p, key := range t.keys {
		entries := lanes[key]
		for i := range entries {
			e, id, err := parseEntry(int32(p), &entries[i])
			if err != nil {
				return Batch{}, err
			}
			out.Entries = append(out.Entries, e)
			t.ids[p] = id
		}
		if t.holds[p] && len(entries) < t.count {
			out.Positions = append(out.Positions, t.held[p])
			t.holds[p] = false
		}
	}
	return out, nil
}
