package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"eventstream/event"
)

// Skip is a range of offsets, To not included, that an operator has a lane pass over: its
// events are neither matched nor delivered.
type Skip struct{ From, To int64 }

// Skips are those of one lane, in order, as the store holds them: "10:20,35:36".
type Skips string

// MaxSkips is how many a lane can have.
const MaxSkips = 32

// Why a Skip is refused.
var (
	ErrPassed       = errors.New("the lane is past its begin")
	ErrNoLane       = errors.New("there is no such lane")
	ErrOverlap      = errors.New("it overlaps with another one")
	ErrTooManySkips = fmt.Errorf("the lane has %d already, which is the most", MaxSkips)
)

// All returns them in order.
func (s Skips) All() []Skip {
	all, _ := parseSkips(string(s)) // checked when it was read
	return all
}

func parseSkips(text string) (all []Skip, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, _ := strings.Cut(part, ":")
		f, err1 := strconv.ParseInt(from, 10, 64)
		t, err2 := strconv.ParseInt(to, 10, 64)
		if err := errors.Join(err1, err2); err != nil || f >= t || len(all) > 0 && f < all[len(all)-1].To {
			return nil, fmt.Errorf("what is to be passed over is %.80q", text)
		}
		all = append(all, Skip{f, t})
	}
	return all, nil
}

func formatSkips(all []Skip) Skips {
	var b []byte
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(b, s.From, 10), ':')
		b = strconv.AppendInt(b, s.To, 10)
	}
	return Skips(b)
}

// with returns s and one more.
func (s Skips) with(more Skip) (Skips, error) {
	all := s.All()
	for _, other := range all {
		if more.From < other.To && other.From < more.To {
			return s, fmt.Errorf("%w: %d to %d", ErrOverlap, other.From, other.To)
		}
	}
	if len(all) >= MaxSkips {
		return s, ErrTooManySkips
	}
	all = append(all, more)
	slices.SortFunc(all, func(a, b Skip) int { return int(min(max(a.From-b.From, -1), 1)) })
	return formatSkips(all), nil
}

// from returns those of s that reach beyond an offset.
func (s Skips) from(offset int64) Skips {
	return formatSkips(slices.DeleteFunc(s.All(), func(sk Skip) bool { return sk.To <= offset }))
}

// skipScript: KEYS pos; ARGV owner, skipped as it was, as it is to be, where the lane may
// be at most. It answers where the lane is, -1 if there is none, and what is skipped.
var skipScript = rueidis.NewLuaScript(`
local m = redis.call('HMGET', KEYS[1], 'topic', 'next', 'skipped')
if not m[2] or m[1] ~= ARGV[1] then return {'-1', ''} end
local was = m[3] or ''
if was ~= ARGV[2] or tonumber(m[2]) > tonumber(ARGV[4]) then return {m[2], was} end
redis.call('HSET', KEYS[1], 'skipped', ARGV[3])
return {m[2], ARGV[3]}
`)

// Skip has a lane pass over a range that it has not come to yet. An Append by a writer
// that does not know of it is refused. It fails with ErrPassed, ErrNoLane, ErrOverlap or
// ErrTooManySkips.
func (r *Redis) Skip(ctx context.Context, sh Shard, p int32, id event.TopicID, s Skip) error {
	return r.editSkips(ctx, sh, p, id, s.From, func(known Skips) (Skips, error) { return known.with(s) })
}

// ForgetSkips forgets the ranges that end at an offset or below it.
func (r *Redis) ForgetSkips(ctx context.Context, sh Shard, p int32, id event.TopicID, offset int64) error {
	err := r.editSkips(ctx, sh, p, id, 1<<62, func(known Skips) (Skips, error) { return known.from(offset), nil })
	if errors.Is(err, ErrNoLane) {
		return nil
	}
	return err
}

// editSkips changes what is passed over, if the lane is at most at an offset.
func (r *Redis) editSkips(ctx context.Context, sh Shard, p int32, id event.TopicID, most int64, edit func(Skips) (Skips, error)) error {
	for known := (Skips("")); ; {
		want, err := edit(known)
		if err != nil {
			return fmt.Errorf("skip in partition %d: %w", p, err)
		}
		answer, err := r.exec(ctx, skipScript, []string{r.posKey(sh, p)}, []string{owner(id, sh), string(known), string(want), offset(most)}).AsStrSlice()
		if err == nil && len(answer) != 2 {
			err = fmt.Errorf("answer %q", answer)
		}
		var next int64
		var got []Skip
		if err == nil {
			if next, err = strconv.ParseInt(answer[0], 10, 64); err == nil {
				got, err = parseSkips(answer[1])
			}
		}
		switch {
		case err != nil:
			return fmt.Errorf("redis skip in partition %d: %w", p, err)
		case next < 0:
			return fmt.Errorf("skip in partition %d: %w", p, ErrNoLane)
		case Skips(answer[1]) == want:
			return nil
		case next > most:
			return fmt.Errorf("skip in partition %d: %w: it is at %d", p, ErrPassed, next)
		}
		known = formatSkips(got)
	}
}

// Skips returns what a lane passes over.
func (r *Redis) Skips(ctx context.Context, sh Shard, p int32) (Skips, error) {
	c, err := r.open(ctx)
	if err != nil {
		return "", fmt.Errorf("redis skips of partition %d: %w", p, err)
	}
	pos, err := parsePosition(sh, p, c.Do(ctx, r.readPosition(c.B(), sh, p)))
	return pos.Skipped, err
}

// Skip is Redis.Skip.
func (m *Memory) Skip(_ context.Context, sh Shard, p int32, id event.TopicID, s Skip) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.laneLocked(sh, p)
	if l == nil || l.topic != id {
		return fmt.Errorf("skip in partition %d: %w", p, ErrNoLane)
	}
	if l.next > s.From {
		return fmt.Errorf("skip in partition %d: %w: it is at %d", p, ErrPassed, l.next)
	}
	want, err := l.skipped.with(s)
	if err != nil {
		return fmt.Errorf("skip in partition %d: %w", p, err)
	}
	l.skipped = want
	return nil
}

// ForgetSkips is Redis.ForgetSkips.
func (m *Memory) ForgetSkips(_ context.Context, sh Shard, p int32, id event.TopicID, offset int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.laneLocked(sh, p); l != nil && l.topic == id {
		l.skipped = l.skipped.from(offset)
	}
	return nil
}

// Skips is Redis.Skips.
func (m *Memory) Skips(_ context.Context, sh Shard, p int32) (Skips, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.positionLocked(sh, p).Skipped, nil
}
