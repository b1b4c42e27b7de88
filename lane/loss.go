package lane

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"eventstream/event"
	"github.com/redis/rueidis"
)

// Loss says that Kafka lost the newest records of a partition, and gives their offsets
// a second time: what it has at From to To-1 since then is not passed on, as an offset
// never means two events.
type Loss struct{ From, To int64 }

// join returns the loss that two are together, if they touch, or else the new one.
func (l Loss) join(newer Loss) Loss {
	if newer.From <= l.To && l.From <= newer.To {
		return Loss{min(l.From, newer.From), max(l.To, newer.To)}
	}
	return newer
}

// loseScript: KEYS pos; ARGV owner, what was lost, what is.
var loseScript = rueidis.NewLuaScript(`
local m = redis.call('HMGET', KEYS[1], 'topic', 'lost')
if m[1] ~= ARGV[1] or (m[2] or '') ~= ARGV[2] then return m[2] or '' end
redis.call('HSET', KEYS[1], 'lost', ARGV[3])
return ARGV[3]
`)

// Lose notes in a lane's position what Kafka lost. It stays there for those who come back
// with positions from before, until something else is lost, or the lane begins anew.
func (r *Redis) Lose(ctx context.Context, sh Shard, p int32, id event.TopicID, l Loss) error {
	for known, want := "", l.String(); ; {
		got, err := r.exec(ctx, loseScript, []string{r.posKey(sh, p)}, []string{owner(id, sh), known, want}).ToString()
		if err != nil {
			return fmt.Errorf("redis note a loss of partition %d: %w", p, err)
		}
		if got == want || got == known {
			return nil // the second: the lane is another topic's
		}
		was, err := parseLoss(got)
		if err != nil {
			return fmt.Errorf("redis note a loss of partition %d: %w", p, err)
		}
		known, want = got, was.join(l).String()
		if known == want {
			return nil
		}
	}
}

func (l Loss) String() string { return fmt.Sprintf("%d:%d", l.From, l.To) }

func parseLoss(text string) (l Loss, err error) {
	if text == "" {
		return l, nil
	}
	from, to, _ := strings.Cut(text, ":")
	if l.From, err = strconv.ParseInt(from, 10, 64); err == nil {
		l.To, err = strconv.ParseInt(to, 10, 64)
	}
	if err != nil {
		return Loss{}, fmt.Errorf("what was lost is %.40q: %w", text, err)
	}
	return l, nil
}

// Lose is Redis.Lose.
func (m *Memory) Lose(_ context.Context, sh Shard, p int32, id event.TopicID, l Loss) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if own := m.laneLocked(sh, p); own != nil && own.topic == id {
		own.lost = own.lost.join(l)
	}
	return nil
}
