package lane

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// MaxShards is how many shards there may be.
const MaxShards = 256

// Shard is a part of the subscribers: those whose hash falls to Index out of Of.
// Each shard has a lane of its own for every partition. The zero value, and Of 1,
// is all of them.
type Shard struct{ Index, Of int32 }

// String returns the shard as ParseShard reads it: "2/8".
func (s Shard) String() string {
	return strconv.Itoa(int(s.Index)) + "/" + strconv.Itoa(int(max(s.Of, 1)))
}

// ParseShard is the inverse of Shard.String.
func ParseShard(text string) (Shard, error) {
	index, of, _ := strings.Cut(text, "/")
	i, err1 := strconv.ParseUint(index, 10, 16)
	n, err2 := strconv.ParseUint(of, 10, 16)
	if err1 != nil || err2 != nil || i >= n || n > MaxShards {
		return Shard{}, fmt.Errorf("shard %.20q: want <index>/<shards>, as 2/8; indexes begin at 0, and there are at most %d shards", text, MaxShards)
	}
	return Shard{int32(i), int32(n)}, nil
}

// ShardOf returns which of so many shards a subscriber falls to. It is the same
// for every process and version: FNV-1a of the name with 64 bits, both halves
// xored, modulo of.
func ShardOf(subscriber string, of int32) int32 {
	if of <= 1 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(subscriber))
	sum := h.Sum64()
	return int32(uint32(sum^sum>>32) % uint32(of))
}

// Holds reports whether a subscriber is in the shard.
func (s Shard) Holds(subscriber string) bool { return ShardOf(subscriber, s.Of) == s.Index }

// whole gives all shards that are everybody the same form.
func (s Shard) whole() Shard {
	if s.Of <= 1 {
		return Shard{}
	}
	return s
}
