package lane

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"eventstream/event"
	"github.com/redis/rueidis"
)

// Epoch returns the identity of the store's content. created says that there
// was none, so that the store was empty, and that this call made it.
func (r *Redis) Epoch(ctx context.Context) (epoch string, created bool, err error) {
	c, err := r.open(ctx)
	if err != nil {
		return "", false, fmt.Errorf("redis epoch: %w", err)
	}
	res, err := pipeline(ctx, c.DoMulti,
		c.B().Set().Key(r.epochKey()).Value(rand.Text()).Nx().Build(),
		c.B().Get().Key(r.epochKey()).Build())
	if err != nil {
		return "", false, fmt.Errorf("redis epoch: %w", err)
	}
	epoch, err = res[1].ToString()
	if err != nil {
		return "", false, fmt.Errorf("redis epoch: %w", err)
	}
	return epoch, !rueidis.IsRedisNil(res[0].Error()), nil
}

// setTopicScript: KEYS topic; ARGV id, partitions, shards, name.
var setTopicScript = rueidis.NewLuaScript(`
local m = redis.call('HMGET', KEYS[1], 'id', 'partitions', 'shards')
local n = ARGV[2]
if m[1] == ARGV[1] and m[3] == ARGV[3] and tonumber(m[2]) > tonumber(n) then n = m[2] end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'partitions', n, 'shards', ARGV[3], 'name', ARGV[4])
`)

// SetTopic tells the readers what the lanes carry. Of one topic, in the same number of
// shards, the number of partitions never gets less: readers rely on it that a partition
// was told of before its lane is claimed.
func (r *Redis) SetTopic(ctx context.Context, t Topic) error {
	err := r.exec(ctx, setTopicScript, []string{r.key("topic")}, []string{
		hexTopic(t.ID), strconv.Itoa(int(t.Partitions)), strconv.Itoa(int(max(t.Shards, 1))), t.Name,
	}).Error()
	if err != nil && !rueidis.IsRedisNil(err) {
		return fmt.Errorf("redis set topic: %w", err)
	}
	return nil
}

// Topic returns what the last SetTopic said, or ErrNoTopic.
func (r *Redis) Topic(ctx context.Context) (Topic, error) {
	c, err := r.open(ctx)
	if err != nil {
		return Topic{}, fmt.Errorf("redis topic: %w", err)
	}
	h, err := c.Do(ctx, c.B().Hgetall().Key(r.key("topic")).Build()).AsStrMap()
	if err != nil {
		return Topic{}, fmt.Errorf("redis topic: %w", err)
	}
	if len(h) == 0 {
		return Topic{}, ErrNoTopic
	}
	t := Topic{Name: h["name"]}
	id, err1 := hex.DecodeString(h["id"])
	n, err2 := strconv.ParseInt(h["partitions"], 10, 32)
	shards, err3 := strconv.ParseInt(cmp.Or(h["shards"], "1"), 10, 32) // none from versions that knew of none
	if err := errors.Join(err1, err2, err3); err != nil || len(id) != len(t.ID) ||
		n < 0 || n > event.MaxPartitions || shards < 1 || shards > MaxShards {
		return Topic{}, fmt.Errorf("redis topic: id %.40q with %.20q partitions in %.20q shards", h["id"], h["partitions"], h["shards"])
	}
	copy(t.ID[:], id)
	t.Partitions, t.Shards = int32(n), int32(shards)
	return t, nil
}
