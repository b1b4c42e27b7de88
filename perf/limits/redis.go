//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/redis/rueidis"
	"golang.org/x/sync/errgroup"
)

// entry is what stands in a lane: its ID and the packed events.
type entry struct{ id, blob string }

const readCount = "42" // entries of a lane in one read: 256 shared out over the lanes, as the gateway does

// xread reads what was appended to the lanes since some offsets, with nothing but XREAD,
// twice: what is measured does not keep it.
func (w *world) xread(ctx context.Context, t *table, from [partitions]int64) (entries [partitions][]entry, err error) {
	if err := w.read(ctx, from, func(p int, e entry) { entries[p] = append(entries[p], e) }); err != nil {
		return entries, err
	}
	n, bytes := 0, 0
	f, err := measure(os.Getpid(), w.cfg.events, func() error {
		return w.read(ctx, from, func(_ int, e entry) { n, bytes = n+1, bytes+len(e.blob) })
	})
	if err != nil {
		return entries, err
	}
	if n == 0 {
		return entries, fmt.Errorf("no entries in the lanes since %v", from)
	}
	t.add(xreadLoop, f)
	t.entry = bytes / n
	return entries, nil
}

// read passes on the entries since some offsets, and their lanes.
func (w *world) read(ctx context.Context, from [partitions]int64, take func(int, entry)) error {
	var keys, ids []string
	for p, at := range from {
		keys = append(keys, fmt.Sprintf("es:{%d}:lane", p))
		ids = append(ids, fmt.Sprintf("%d-0", max(at, 0)))
	}
	for {
		args := append([]string{"COUNT", readCount, "STREAMS"}, append(keys, ids...)...)
		streams, err := w.redis.Do(ctx, w.redis.B().Arbitrary("XREAD").Args(args...).Build()).ToMap()
		if rueidis.IsRedisNil(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("XREAD: %w", err)
		}
		for p, key := range keys {
			answer, ok := streams[key]
			if !ok {
				continue
			}
			all, err := answer.ToArray()
			if err != nil {
				return fmt.Errorf("XREAD: %w", err)
			}
			for _, one := range all {
				e, err := parse(one)
				if err != nil {
					return fmt.Errorf("XREAD: %w", err)
				}
				take(p, e)
				ids[p] = e.id
			}
		}
	}
}

// parse takes an entry apart, whose first field is the packed events.
func parse(m rueidis.RedisMessage) (e entry, err error) {
	parts, err := m.ToArray()
	if err != nil || len(parts) != 2 {
		return e, fmt.Errorf("an entry of %d parts: %v", len(parts), err)
	}
	fields, err := parts[1].ToArray()
	if err != nil || len(fields) < 2 {
		return e, fmt.Errorf("an entry of %d names and values: %v", len(fields), err)
	}
	if e.id, err = parts[0].ToString(); err == nil {
		e.blob, err = fields[1].ToString()
	}
	return e, err
}

// xadd appends the same entries to streams beside the lanes, with nothing but XADD, one
// after the other in each.
func (w *world) xadd(ctx context.Context, t *table, entries [partitions][]entry) error {
	var keys []string
	f, err := measure(os.Getpid(), w.cfg.events, func() error {
		g, ctx := errgroup.WithContext(ctx)
		for p, of := range entries {
			key := fmt.Sprintf("limits:{%d}", p)
			keys = append(keys, key)
			g.Go(func() error {
				for _, e := range of {
					if err := w.redis.Do(ctx, w.redis.B().Xadd().Key(key).Id(e.id).FieldValue().FieldValue("b", e.blob).Build()).Error(); err != nil {
						return fmt.Errorf("XADD: %w", err)
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
	if err != nil {
		return err
	}
	t.add(xaddLoop, f)
	return w.redis.Do(ctx, w.redis.B().Unlink().Key(keys...).Build()).Error()
}
