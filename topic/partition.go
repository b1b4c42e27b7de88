package topic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/internal/trouble"
)

// maxBatch bounds what Next returns at once.
const maxBatch = 4096

// Partition is one partition of the topic while it is assigned to this member.
// It belongs to the worker that it was given to.
type Partition struct {
	ID int32

	wake func() // makes the reader look at this partition; doesn't block
	low  int    // bytes of queue below which a paused partition is read again

	ready chan struct{} // holds a token when queue isn't empty

	trouble *trouble.Trouble // of its worker; nil if nobody supervises that

	end     atomic.Int64
	strayed atomic.Pointer[Stray]
	done    atomic.Int64 // next offset to commit, -1 for none
	began   atomic.Int64 // of the first SeekTo, -1 before it

	mu     sync.Mutex
	queue  [][]*kgo.Record // as fetched, oldest first
	taken  []*kgo.Record   // what Next returned last
	bytes  int             // of the records in queue
	want   int64           // next offset that may enter queue; -1 before the first SeekTo
	seek   bool            // the reader has yet to go to want; until then it drops what it has fetched
	paused bool            // the reader stopped at a full queue
}

func newPartition(id int32, low int, wake func()) *Partition {
	p := &Partition{ID: id, low: low, wake: wake, want: -1, ready: make(chan struct{}, 1)}
	p.end.Store(-1)
	p.done.Store(-1)
	p.began.Store(-1)
	return p
}

// SeekTo sets where to read. Nothing is delivered before the first SeekTo. It may
// be called again at any time: no record that was fetched before is delivered
// after it, and the next one has an offset of at least offset.
//
// The log may not have offset any more, or not yet. If retention has passed it,
// reading goes on with the oldest record there is. If the log ends before it,
// which means that Kafka lost records, nothing is delivered until the log has
// grown to it; End is below offset then. Both are logged as errors, and
// Strayed tells of both.
func (p *Partition) SeekTo(offset int64) {
	p.strayed.Store(nil)
	p.began.CompareAndSwap(-1, max(0, offset))
	p.mu.Lock()
	p.queue, p.bytes = nil, 0
	p.want, p.seek = max(0, offset), true
	p.mu.Unlock()
	p.wake()
}

// Next waits for records and returns some that are there, in order of their
// offsets; the slice is the caller's until the next call. Marks of transactions are among
// them (IsMark). After maxWait without
// a record it returns none. It fails only when ctx has ended.
func (p *Partition) Next(ctx context.Context, maxWait time.Duration) ([]*kgo.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if recs := p.take(); recs != nil {
		return recs, nil
	}
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout.C:
			return p.take(), nil
		case <-p.ready:
			// The token may be from before a SeekTo.
			if recs := p.take(); recs != nil {
				return recs, nil
			}
		}
	}
}

// Done tells that everything below next is dealt with. It is committed to Kafka
// within about a second, only to be seen by tools.
func (p *Partition) Done(next int64) {
	p.done.Store(next)
	p.trouble.Worked()
}

// Stray says that Kafka did not have what was to be read: events are lost.
type Stray struct {
	Want int64 // what was to be read, after all that was delivered before
	Log  int64 // if it is further: where the log begins, as retention has passed Want; else, where offsets are given a second time, as Kafka lost records
}

// Lost reports whether Kafka lost records, and gives their offsets a second time.
func (s Stray) Lost() bool { return s.Log < s.Want }

// Strayed tells that once, if it is so since the last SeekTo, or still.
func (p *Partition) Strayed() (s Stray, ok bool) {
	if at := p.strayed.Swap(nil); at != nil {
		return *at, true
	}
	return s, false
}

// End returns the end of what can be read of the partition as of the last fetch, or -1 if
// there was none yet. The first record of a transaction that is open is beyond it.
func (p *Partition) End() int64 { return p.end.Load() }

// take removes up to maxBatch records from the queue, however many fetches they
// came with: a producer that does not wait makes a batch of each record.
func (p *Partition) take() []*kgo.Record {
	p.mu.Lock()
	clear(p.taken)
	p.taken = p.taken[:0]
	for len(p.queue) > 0 && len(p.taken) < maxBatch {
		head := p.queue[0]
		n := min(len(head), maxBatch-len(p.taken))
		p.taken = append(p.taken, head[:n]...)
		if p.queue[0] = head[n:]; n == len(head) {
			p.queue[0] = nil
			p.queue = p.queue[1:]
		}
	}
	recs := p.taken
	p.bytes -= size(recs)
	resume := p.paused && p.bytes <= p.low
	p.mu.Unlock()
	if resume {
		p.wake()
	}
	if len(recs) == 0 {
		return nil
	}
	return recs
}

// put adds fetched records, without those that the worker has seen or doesn't
// want, and returns the bytes that wait now.
func (p *Partition) put(recs []*kgo.Record) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seek || p.want < 0 {
		return p.bytes
	}
	for len(recs) > 0 && recs[0].Offset < p.want {
		recs = recs[1:]
	}
	if len(recs) == 0 {
		return p.bytes
	}
	p.want = recs[len(recs)-1].Offset + 1
	p.queue = append(p.queue, recs)
	p.bytes += size(recs)
	select {
	case p.ready <- struct{}{}:
	default:
	}
	return p.bytes
}

// refetch makes the reader go to the next wanted offset once more, or to from
// if that is further.
func (p *Partition) refetch(from int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want >= 0 {
		p.want, p.seek = max(p.want, from), true
	}
}

// Hold forgets everything: nothing is delivered until the next SeekTo.
func (p *Partition) Hold() {
	p.mu.Lock()
	p.queue, p.bytes, p.want, p.seek = nil, 0, -1, false
	p.mu.Unlock()
	p.wake()
}

// queued returns how many records wait.
func (p *Partition) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, recs := range p.queue {
		n += len(recs)
	}
	return n
}

// recordOverhead is about what a record costs beside its bytes.
const recordOverhead = 200

func size(recs []*kgo.Record) int {
	n := len(recs) * recordOverhead
	for _, r := range recs {
		n += len(r.Key) + len(r.Value)
	}
	return n
}

// plan tells the reader what to do with the partition, and takes it as done: go
// to an offset, fetch it at all, end its pause.
func (p *Partition) plan() (at int64, seek, fetch, resume bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, seek = p.want, p.seek
	p.seek = false
	resume = p.paused && p.bytes <= p.low
	if resume {
		p.paused = false
	}
	return at, seek, p.want >= 0, resume
}

// setPaused notes that the reader stopped. It reports whether the queue has
// become short meanwhile, in which case nobody else would resume it.
func (p *Partition) setPaused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
	return p.bytes <= p.low
}

func (p *Partition) wanted() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}
