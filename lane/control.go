package lane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"eventstream/filter"
	"github.com/redis/rueidis"
)

// controlPage is how many changes ControlSince asks for at a time.
const controlPage = 1000

// controlTrimEvery is the least time between two trims by one process, and the
// least age of the entry that a trim is reckoned from; see controlAdd. A reader
// that asks at least this often never loses the place where it is.
const controlTrimEvery = 30 * time.Second

func (r *Redis) controlKey() string { return r.key("{control}") }

// PublishFilter appends a filter's change to the control stream.
func (r *Redis) PublishFilter(ctx context.Context, c filter.Change) (ControlID, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return ControlID{}, fmt.Errorf("publish filter %s: %w", c.ID, err)
	}
	id, err := r.controlAdd(ctx, filterField, b)
	if err != nil {
		return ControlID{}, fmt.Errorf("redis publish filter %s: %w", c.ID, err)
	}
	return id, nil
}

// PublishBulk appends that many filters changed at once: readers get them from
// the filter store before they go on.
func (r *Redis) PublishBulk(ctx context.Context) (ControlID, error) {
	id, err := r.controlAdd(ctx, bulkField, []byte{})
	if err != nil {
		return ControlID{}, fmt.Errorf("redis publish bulk change: %w", err)
	}
	return id, nil
}

// controlAdd appends entries to the control stream and returns the ID of the
// last one.
//
// The stream is trimmed by the clock of Redis, which is that of the IDs, and
// reckoned from an entry that this process appended at least controlTrimEvery
// ago. So after a long silence the last entry, where all readers are, is kept
// until they had time to read what came after it.
func (r *Redis) controlAdd(ctx context.Context, field string, values ...[]byte) (last ControlID, err error) {
	if len(values) == 0 {
		return ControlID{}, nil
	}
	c, err := r.open(ctx)
	if err != nil {
		return ControlID{}, err
	}
	commands := make(rueidis.Commands, 0, len(values)+1)
	for _, v := range values {
		commands = append(commands, c.B().Xadd().Key(r.controlKey()).Id("*").
			FieldValue().FieldValue(field, rueidis.BinaryString(v)).Build())
	}
	if before, ok := r.takeControlTrim(); ok {
		commands = append(commands, c.B().Xtrim().Key(r.controlKey()).
			Minid().Almost().Threshold(before.String()).Build())
	}
	results, err := pipeline(ctx, c.DoMulti, commands...)
	if err != nil {
		return ControlID{}, err
	}
	if last, err = controlID(results[len(values)-1]); err != nil {
		return ControlID{}, err
	}
	r.setControlTrim(last)
	return last, nil
}

// takeControlTrim returns the ID to trim the control stream before, if it is
// time to.
func (r *Redis) takeControlTrim() (before ControlID, ok bool) {
	r.trim.Lock()
	defer r.trim.Unlock()
	const keep = uint64(ControlRetention / time.Millisecond)
	if r.trim.base.Ms <= keep || time.Since(r.trim.since) < controlTrimEvery {
		return ControlID{}, false
	}
	before = ControlID{Ms: r.trim.base.Ms - keep}
	r.trim.base = ControlID{}
	return before, true
}

// setControlTrim makes last, just appended, what the next trim is reckoned from.
func (r *Redis) setControlTrim(last ControlID) {
	r.trim.Lock()
	defer r.trim.Unlock()
	if r.trim.base == (ControlID{}) {
		r.trim.base, r.trim.since = last, time.Now()
	}
}

// ControlEnd returns the ID of the last change ever appended to the control
// stream, zero if there is no stream.
func (r *Redis) ControlEnd(ctx context.Context) (ControlID, error) {
	c, err := r.open(ctx)
	if err != nil {
		return ControlID{}, fmt.Errorf("redis control end: %w", err)
	}
	info, err := c.Do(ctx, c.B().XinfoStream().Key(r.controlKey()).Build()).AsMap()
	if e, ok := rueidis.IsRedisErr(err); ok && e.Error() == "no such key" {
		return ControlID{}, nil
	}
	if err != nil {
		return ControlID{}, fmt.Errorf("redis control end: %w", err)
	}
	end := info["last-generated-id"]
	id, err := controlID(&end)
	if err != nil {
		return ControlID{}, fmt.Errorf("redis control end: %w", err)
	}
	return id, nil
}

// ControlSince returns all changes after the given one without waiting for
// more, and the ID of the last one, or after if there are none. It takes one
// round trip for controlPage changes. ErrControlLost: the stream doesn't hold
// what came after any more.
//
// It reads from after itself on: as long as that entry is there, nothing
// between it and the end is missing. The last entry is never trimmed, so that a
// reader that keeps up is at an entry that is there, or at zero.
func (r *Redis) ControlSince(ctx context.Context, after ControlID) (changes []Change, last ControlID, err error) {
	last = after
	for {
		page, err := r.controlPage(ctx, last)
		if errors.Is(err, ErrControlLost) && last == after {
			err = r.checkLost(ctx, after)
			return nil, after, err
		}
		if err != nil {
			return nil, after, fmt.Errorf("redis control stream after %s: %w", after, err)
		}
		if len(page) == 0 {
			return changes, last, nil
		}
		changes, last = append(changes, page...), page[len(page)-1].ID
		if len(page) < controlPage {
			return changes, last, nil
		}
	}
}

// controlPage returns the next changes after an ID, or ErrControlLost if that ID
// isn't there.
func (r *Redis) controlPage(ctx context.Context, after ControlID) ([]Change, error) {
	c, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	msgs, err := c.Do(ctx, c.B().Xrange().Key(r.controlKey()).
		Start(after.String()).End("+").Count(controlPage+1).Build()).ToArray()
	if err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(msgs))
	found := after == ControlID{}
	for i := range msgs {
		text, fields, err := streamEntry(&msgs[i])
		if err != nil {
			return nil, err
		}
		field, value, err := firstField(fields)
		if err != nil {
			return nil, err
		}
		id, err := ParseControlID(text)
		if err != nil {
			return nil, err
		}
		if id == after {
			found = true
			continue
		}
		change, err := decodeChange(id, field, value)
		if err != nil {
			// It will not get better: left out, or no change after it would be seen.
			r.log.Error("control entry left out", "err", err)
		}
		out = append(out, change)
	}
	if !found {
		return nil, ErrControlLost
	}
	return out, nil
}

// checkLost tells a stream that somebody has emptied by hand from one that lost
// its past. Readers of the first would otherwise start again for ever.
func (r *Redis) checkLost(ctx context.Context, after ControlID) error {
	end, err := r.ControlEnd(ctx)
	if err != nil {
		return err
	}
	if end == after {
		return nil
	}
	return fmt.Errorf("redis control stream after %s, now at %s: %w", after, end, ErrControlLost)
}

func controlID(msg interface{ ToString() (string, error) }) (ControlID, error) {
	s, err := msg.ToString()
	if err != nil {
		return ControlID{}, err
	}
	return ParseControlID(s)
}
