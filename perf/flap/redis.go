//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"eventstream/event"
	"eventstream/lane"
)

// lanes looks at what the filter service writes into Redis.
type lanes struct {
	redis *lane.Redis
	n     int32
}

func openLanes(addr string, partitions int) (*lanes, error) {
	r, err := lane.NewRedis(lane.RedisConfig{Addr: addr}, slog.Default())
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return &lanes{r, int32(partitions)}, nil
}

func (l *lanes) positions(ctx context.Context) ([]lane.Position, error) {
	return l.redis.Positions(ctx, lane.Shard{}, l.n)
}

// entries is the entries that hold events of one type only.
type entries struct {
	events, seats, bytes, data int
	most                       int // seats of an event
}

// between returns the entries from some positions to others, by the type of their events.
func (l *lanes) between(ctx context.Context, from, to []lane.Position) (map[string]*entries, error) {
	all := make(map[string]*entries)
	for i := range from {
		first, last := from[i], to[i]
		if first.Next >= last.Next {
			continue
		}
		_, err := l.redis.Range(ctx, lane.Shard{}, first.Partition, first.Next, last.Next, func(e lane.Entry) error { return count(all, e) })
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func count(all map[string]*entries, e lane.Entry) error {
	var u lane.Unpacker
	var seats []event.Seat
	kind, one := "", entries{bytes: len(e.Blob)}
	for u.Open(e.Blob); u.Next(); {
		var data struct {
			Type string `json:"event_type"`
		}
		if err := json.Unmarshal(u.Data, &data); err != nil {
			return err
		}
		if kind != "" && kind != data.Type {
			return nil
		}
		seats, kind = seats[:0], data.Type
		for _, s := range u.Groups() {
			seats = s.Append(seats)
		}
		one.events, one.seats, one.data = one.events+1, one.seats+len(seats), one.data+len(u.Data)
		one.most = max(one.most, len(seats))
	}
	if u.Err() != nil {
		return u.Err()
	}
	if all[kind] == nil {
		all[kind] = &entries{}
	}
	all[kind].add(one)
	return nil
}

func (e *entries) add(o entries) {
	e.events, e.seats, e.bytes, e.data = e.events+o.events, e.seats+o.seats, e.bytes+o.bytes, e.data+o.data
	e.most = max(e.most, o.most)
}
