package topic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
)

// askTimeout bounds the questions that the reader asks between two polls.
const askTimeout = 5 * time.Second

// outOfRange decides where to go on when the log doesn't hold the wanted offset.
func (r *reader) outOfRange(ctx context.Context, f *feed, log *slog.Logger) {
	r.m.outOfRange.Inc()
	want := f.p.wanted()
	start, err := offsetOf(ctx, r.cl, r.cfg.Topic, f.p.ID, atStart)
	var end int64
	if err == nil {
		end, err = offsetOf(ctx, r.cl, r.cfg.Topic, f.p.ID, atTop)
	}
	switch {
	case err != nil:
		f.trouble.Failed(fmt.Errorf("position %d is out of range, and the range is unknown: %w", want, err))
	case want < start:
		log.Error("retention has passed our position: events are lost; going on with the oldest",
			"pos", want, "oldest", start, "lost", start-want)
		f.p.strayed.Store(&Stray{want, start})
		r.goOn(f, start)
	case want > end:
		f.p.strayed.Store(&Stray{want, end})
		f.p.end.Store(end)
		if f.due() {
			log.Error("the log ends before our position: Kafka lost records, or this is another log; waiting until it has grown to it",
				"pos", want, "end", end)
		}
	}
}

// undecodableTries is how often a batch is fetched before it counts as corrupt:
// it may have been damaged on its way.
const undecodableTries = 3

// undecodable handles a batch that the client can't decode. It would stop the
// partition for ever: every fetch returns the same.
func (r *reader) undecodable(ctx context.Context, f *feed, err error, log *slog.Logger) {
	want := f.p.wanted()
	if f.failures < undecodableTries {
		log.Warn("a batch can't be decoded; retrying", "pos", want, "err", err)
		return
	}
	if f.failures == undecodableTries {
		r.m.corrupt.Inc()
	}
	if !r.cfg.SkipCorrupt {
		if f.failures == undecodableTries || f.due() {
			f.said = time.Now()
			log.Error("a corrupt batch stops this partition; retrying. It can be skipped with SkipCorrupt", "pos", want, "err", err)
		}
		return
	}
	next, endErr := r.batchEnd(ctx, f.p.ID, want, err)
	if endErr != nil {
		f.trouble.Failed(fmt.Errorf("a corrupt batch at %d stops it, and its end is unknown: %w", want, errors.Join(err, endErr)))
		return
	}
	log.Error("skipping a corrupt batch: its events are lost", "pos", want, "next", next, "err", err)
	r.goOn(f, next)
}

// goOn ends a failure: the partition is fetched again at once, from offset from.
func (r *reader) goOn(f *feed, from int64) {
	f.failures, f.retry = 0, time.Time{}
	f.p.refetch(from)
	r.wake()
}

// batchEnd returns the offset after the batch that holds offset at, from its
// header.
func (r *reader) batchEnd(ctx context.Context, id int32, at int64, err error) (int64, error) {
	if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok && large.NextOffset > at {
		return large.NextOffset, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := r.fetchRaw(ctx, id, at)
	if err != nil {
		return 0, fmt.Errorf("fetch batch header: %w", err)
	}
	return afterBatch(raw, at), nil
}

// afterBatch returns the offset after the batch of raw that holds offset at.
func afterBatch(raw []byte, at int64) int64 {
	for len(raw) >= batchHeader {
		first := int64(binary.BigEndian.Uint64(raw))
		length := 12 + int64(binary.BigEndian.Uint32(raw[8:]))
		next := first + int64(int32(binary.BigEndian.Uint32(raw[23:]))) + 1
		if next > at && next-at < 1<<31 {
			return next
		}
		raw = raw[min(length, int64(len(raw))):]
	}
	return at + 1 // not even the header can be trusted
}

// batchHeader is how much of a batch we look at:
//
//	0 first offset | 8 length | 12 leader epoch | 16 magic | 17 CRC | 21 attributes | 23 last offset delta | 27
const batchHeader = 27

// fetchRaw returns what the broker answers to a fetch at an offset.
func (r *reader) fetchRaw(ctx context.Context, id int32, at int64) ([]byte, error) {
	md, err := r.adm.Metadata(ctx, r.cfg.Topic)
	if err != nil {
		return nil, err
	}
	t := md.Topics[r.cfg.Topic]
	resp, err := fetchOne(ctx, r.cl, t.Partitions[id].Leader, r.cfg.Topic, event.TopicID(t.ID), id, at)
	if err != nil {
		return nil, err
	}
	return resp.RecordBatches, kerr.ErrorForCode(resp.ErrorCode)
}
