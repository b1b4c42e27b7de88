package event

import (
	"errors"
	"fmt"
	"strings"
)

// What a client has got since a cursor is said by the newest event of each partition:
// "3-10293,5-88". Events of a partition come in order, so that it has all before that, too.
// In memory it is positions: the offset after that event, by partition, and 0 where there
// was none.

// ErrSeen reports what can't be what a client got since a cursor.
var ErrSeen = errors.New("want the newest event id of each partition since the cursor, such as 3-10293,5-88")

// ParseSeen reads the newest events of partitions, in any order, as positions. Errors wrap
// ErrSeen.
func ParseSeen(text string) (next []int64, err error) {
	for one := range strings.SplitSeq(text, ",") {
		id, err := ParseID(one)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%.40q is no event id; %w", one, ErrSeen)
		case id.Partition >= MaxPartitions:
			return nil, fmt.Errorf("%s: a topic has at most %d partitions; %w", id, MaxPartitions, ErrSeen)
		case id.Offset >= maxOffset:
			return nil, fmt.Errorf("%s: there is no such offset; %w", id, ErrSeen)
		}
		next = append(next, make([]int64, max(0, int(id.Partition)+1-len(next)))...)
		if next[id.Partition] > 0 {
			return nil, fmt.Errorf("partition %d is there twice; %w", id.Partition, ErrSeen)
		}
		next[id.Partition] = id.Offset + 1
	}
	return next, nil
}

// AppendSeen appends the text of positions that ParseSeen would return.
func AppendSeen(b []byte, next []int64) []byte {
	first := true
	for p, n := range next {
		if n == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		b, first = ID{int32(p), n - 1}.Append(b), false
	}
	return b
}

// Since returns the cursor of a client that has got c, and since then what is below the
// given positions. An event below c is refused: it did not come since. Errors wrap ErrSeen.
func (c *Cursor) Since(next []int64) (*Cursor, error) {
	for p, n := range next {
		if p < len(c.Next) && 0 < n && n <= c.Next[p] {
			return nil, fmt.Errorf("%s is below the cursor, which is at %s; %w", ID{int32(p), n - 1}, ID{int32(p), c.Next[p]}, ErrSeen)
		}
	}
	after := *c
	after.Next = furthest(c.Next, next)
	return &after, nil
}
