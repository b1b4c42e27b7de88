package lane

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"eventstream/event"
	"github.com/redis/rueidis"
)

// ErrFull reports that the store has no memory left. Nothing was appended; what
// TrimBefore allows was trimmed, so that a later call may succeed.
var ErrFull = errors.New("lane store is full")

// ErrBehind reports that a partition has not come as far as the range that was
// asked for: the store lost writes that were there before, and the filter
// service has not filled it again yet.
var ErrBehind = errors.New("lane has lost writes and is not filled again yet")

// claimScript: KEYS lane, pos; ARGV owner, start, end.
var claimScript = rueidis.NewLuaScript(`
local m = redis.call('HMGET', KEYS[2], 'topic', 'next', 'synced')
if m[1] == ARGV[1] and m[2] then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
  redis.call('HSET', KEYS[2], 'end', ARGV[3])
  return m[2]
end
if ARGV[2] == '-1' then return '-1' end
local synced = not m[2] and m[3] or '0-0'
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'topic', ARGV[1], 'next', ARGV[2], 'first', ARGV[2], 'synced', synced, 'end', ARGV[3])
return ARGV[2]
`)

// luaLess compares two IDs of the control stream.
const luaLess = `
local function less(a, b)
  local ms, seq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  ms, seq, bms, bseq = tonumber(ms), tonumber(seq), tonumber(bms), tonumber(bseq)
  return ms < bms or (ms == bms and seq < bseq)
end
`

// appendScript: KEYS lane, pos; ARGV owner, expect, next, synced, trim before,
// last, entry, last + 1, end, skipped. Offsets are compared as the strings that this package wrote and
// are never turned into a number on their way. XADD comes first: it is what
// Redis refuses when its memory is full, and it refuses a script only before
// its first write.
//
// A writer that has applied less of the control stream than the one before it
// is refused as well. Otherwise a writer that has lost the partition could add
// events that were matched without a subscriber after readers had been told
// that from here on all are matched with it. And so is one that does not know what
// is to be passed over.
var appendScript = rueidis.NewLuaScript(luaLess + `
local m = redis.call('HMGET', KEYS[2], 'topic', 'next', 'first', 'synced', 'beat', 'after', 'skipped')
if not m[2] or m[1] ~= ARGV[1] then return '-1' end
if m[2] ~= ARGV[2] then return m[2] end
if m[4] ~= ARGV[4] and less(ARGV[4], m[4]) then return m[2] end
if (m[7] or '') ~= ARGV[10] then return '-2' end
local after = m[6] or '0'
if ARGV[7] ~= '' then
  if tonumber(m[3]) > tonumber(after) then after = m[3] end
  redis.call('XADD', KEYS[1], ARGV[6]..'-1', 'b', ARGV[7], 'a', after)
  after = ARGV[8]
end
redis.call('HSET', KEYS[2], 'next', ARGV[3], 'synced', ARGV[4], 'beat', (tonumber(m[5]) or 0) + 1, 'after', after, 'end', ARGV[9])
if tonumber(ARGV[5]) > tonumber(m[3]) then
  redis.call('HSET', KEYS[2], 'first', ARGV[5])
  redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[5]..'-0')
end
return ARGV[3]
`)

// requireScript: KEYS lane, pos; ARGV synced. It answers as readPosition does, with
// what was there before. Where nothing was, what is required waits for the claim.
var requireScript = rueidis.NewLuaScript(luaLess + `
local m = redis.call('HMGET', KEYS[2], 'topic', 'next', 'first', 'synced', 'beat', 'lost', 'end', 'skipped')
if less(m[4] or '0-0', ARGV[1]) then redis.call('HSET', KEYS[2], 'synced', ARGV[1]) end
return m
`)

// trimScript: KEYS lane, pos; ARGV owner, trim before. XTRIM comes first: a full
// Redis lets it pass, and after it the HSET.
var trimScript = rueidis.NewLuaScript(`
local m = redis.call('HMGET', KEYS[2], 'topic', 'first', 'next')
if m[1] ~= ARGV[1] or tonumber(ARGV[2]) <= tonumber(m[2]) or tonumber(ARGV[2]) > tonumber(m[3]) then return end
redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[2]..'-0')
redis.call('HSET', KEYS[2], 'first', ARGV[2])
`)

// Claim returns the position of a shard's lane of partition p. If there is none,
// or it is that of another topic or another number of shards, an empty lane is
// begun at start, unless that is -1: then there is none, and -1 is returned. The
// partition ended at end in Kafka.
func (r *Redis) Claim(ctx context.Context, sh Shard, p int32, id event.TopicID, start, end int64) (next int64, err error) {
	next, err = r.exec(ctx, claimScript, r.laneKeys(sh, p), []string{owner(id, sh), offset(max(start, -1)), offset(end)}).AsInt64()
	if err != nil {
		return 0, fmt.Errorf("redis claim partition %d: %w", p, err)
	}
	return next, nil
}

// Unskipped is what Append answers to a writer that does not know what is to be passed over. It
// is told by itself: an idle writer, which moves nothing, takes its own position for success.
const Unskipped = -2

// Append moves a partition from a.Expect to a.Next and appends a.Entry, both or
// nothing, if the partition is at a.Expect. It returns where the partition is
// after that:
//
//   - a.Next: it is done, by this call or by an earlier one whose answer was lost;
//   - -1: the store knows nothing of this partition, topic and number of shards: Claim;
//   - Unskipped: nothing was appended, as a.Skipped is not what is to be passed over: Skips;
//   - anything else, also a.Expect: nothing was appended, because the store lost
//     writes, or another writer moved on or has applied more of the control
//     stream, or something else is to be passed over. Read the control stream and go on from the returned offset.
//
// An error leaves open whether it was done; ErrFull says that it was not.
func (r *Redis) Append(ctx context.Context, a Append) (next int64, err error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	owner, keys, trim := owner(a.Topic, a.Shard), r.laneKeys(a.Shard, a.Partition), offset(min(a.TrimBefore, a.Next))
	next, err = r.exec(ctx, appendScript, keys, []string{
		owner, offset(a.Expect), offset(a.Next), a.Synced.String(), trim,
		offset(a.Last), rueidis.BinaryString(a.Entry), offset(a.Last + 1), offset(a.End), string(a.Skipped),
	}).AsInt64()
	if isFull(err) {
		// Without this a full Redis would stay full: nothing else trims lanes.
		r.exec(ctx, trimScript, keys, []string{owner, trim})
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return 0, fmt.Errorf("redis append to partition %d: %w", a.Partition, err)
	}
	return next, nil
}

// check finds callers' mistakes, which would make holes in a lane.
func (a *Append) check() error {
	if a.Expect < 0 || a.Next < a.Expect || len(a.Entry) > 0 && (a.Last < a.Expect || a.Last >= a.Next) {
		return fmt.Errorf("append to partition %d: from %d to %d with last event %d", a.Partition, a.Expect, a.Next, a.Last)
	}
	return nil
}

func isFull(err error) bool {
	_, ok := rueidis.IsRedisErr(err)
	return ok && strings.Contains(err.Error(), "OOM command not allowed")
}

// retireScript: KEYS lane, pos; ARGV owner, ms to keep.
var retireScript = rueidis.NewLuaScript(`
if redis.call('HGET', KEYS[2], 'topic') ~= ARGV[1] then return end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
`)

// Retire lets a topic's lanes of a shard in partitions 0 to n-1 go after keep, unless
// they are claimed again. Those that another topic has taken over stay.
func (r *Redis) Retire(ctx context.Context, sh Shard, id event.TopicID, n int32, keep time.Duration) error {
	for p := range n {
		args := []string{owner(id, sh), offset(max(keep.Milliseconds(), 0))}
		err := r.exec(ctx, retireScript, r.laneKeys(sh, p), args).Error()
		if err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("redis retire partition %d of shard %s: %w", p, sh, err)
		}
	}
	return nil
}

// Require has a shard's lanes refuse, from now on, what was matched with less of the
// control stream applied, and returns their positions as they were then, as
// Positions does.
func (r *Redis) Require(ctx context.Context, sh Shard, n int32, synced ControlID) ([]Position, error) {
	out := make([]Position, n)
	for p := range n {
		var err error
		if out[p], err = parsePosition(sh, p, r.exec(ctx, requireScript, r.laneKeys(sh, p), []string{synced.String()})); err != nil {
			return nil, fmt.Errorf("redis require: %w", err)
		}
	}
	return out, nil
}

// Positions returns the positions of a shard in partitions 0 to n-1.
func (r *Redis) Positions(ctx context.Context, sh Shard, n int32) ([]Position, error) {
	c, err := r.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis positions: %w", err)
	}
	commands := make(rueidis.Commands, n)
	for p := range n {
		commands[p] = r.readPosition(c.B(), sh, p)
	}
	results, err := pipeline(ctx, c.DoMulti, commands...)
	if err != nil {
		return nil, fmt.Errorf("redis positions: %w", err)
	}
	out := make([]Position, n)
	for p := range n {
		if out[p], err = parsePosition(sh, p, results[p]); err != nil {
			return nil, fmt.Errorf("redis positions: %w", err)
		}
	}
	return out, nil
}

func (r *Redis) readPosition(b rueidis.Builder, sh Shard, p int32) rueidis.Completed {
	return b.Hmget().Key(r.posKey(sh, p)).Field("topic", "next", "first", "synced", "beat", "lost", "end", "skipped").Build()
}

// parsePosition reads what readPosition asked for. The position of another number
// of shards says nothing of this one.
func parsePosition(sh Shard, p int32, res rueidis.RedisResult) (Position, error) {
	pos := Position{Partition: p, Next: -1, First: -1}
	f, err := arrayOf(8, res)
	if err != nil {
		return pos, fmt.Errorf("position of partition %d: %w", p, err)
	}
	owner, _ := f[0].ToString()
	if f[1].IsNil() || !sh.owns(owner) {
		return pos, nil
	}
	synced, err := f[3].ToString()
	if err != nil {
		return pos, fmt.Errorf("position of partition %d: synced: %w", p, err)
	}
	var err1, err2, err3, err4, err5, err6, err7 error
	pos.Next, err1 = f[1].AsInt64()
	pos.First, err2 = f[2].AsInt64()
	pos.Synced, err3 = ParseControlID(synced)
	if !f[4].IsNil() {
		pos.Beat, err4 = f[4].AsInt64()
	}
	if lost, err := f[5].ToString(); err == nil {
		pos.Lost, err5 = parseLoss(lost)
	}
	if !f[6].IsNil() { // older filter services don't say
		pos.End, err6 = f[6].AsInt64()
	}
	if skipped, err := f[7].ToString(); err == nil {
		pos.Skipped = Skips(skipped)
		_, err7 = parseSkips(skipped)
	}
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return pos, fmt.Errorf("position of partition %d: %w", p, err)
	}
	return pos, nil
}

func (r *Redis) laneKeys(sh Shard, p int32) []string {
	return []string{r.laneKey(sh, p), r.posKey(sh, p)}
}

// owner is what a position was claimed for: the topic and, if there are several,
// the number of shards: "<topic>/8". Lanes of different numbers of shards have
// the same keys, but one never goes on where the other left off, since they are
// not for the same subscribers.
func owner(id event.TopicID, sh Shard) string { return hexTopic(id) + sh.suffix() }

func (s Shard) owns(owner string) bool {
	_, of, several := strings.Cut(owner, "/")
	return several == (s.Of > 1) && (!several || of == strconv.Itoa(int(s.Of)))
}

func (s Shard) suffix() string {
	if s.Of <= 1 {
		return ""
	}
	return "/" + strconv.Itoa(int(s.Of))
}

func offset(n int64) string { return strconv.FormatInt(n, 10) }

func hexTopic(id event.TopicID) string { return hex.EncodeToString(id[:]) }
