package client

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"eventstream/event"
)

// position is how far a client has come.
type position struct {
	cursor string
	seen   string // the newest events since the cursor, as event.AppendSeen writes them
}

// maxSeen bounds the text that names the events since the cursor: enough for some 300
// partitions. Events of others are sent again, and dropped.
const maxSeen = 4 << 10

// positionLocked returns the current position.
func (c *Client) positionLocked() position {
	return c.sinceLocked(c.cursor)
}

// sinceLocked is where the client is now, told from a cursor.
func (c *Client) sinceLocked(cursor string) position {
	if cursor == "" {
		return position{}
	}
	seen := string(event.AppendSeen(nil, c.fresh))
	if len(seen) > maxSeen {
		seen = seen[:strings.LastIndexByte(seen[:maxSeen+1], ',')]
	}
	return position{cursor, seen}
}

func (c *Client) position() position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.positionLocked()
}

// got records a handled event since the cursor.
func (c *Client) got(id event.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := int(id.Partition) + 1; n > len(c.fresh) {
		c.fresh = append(c.fresh, make([]int64, n-len(c.fresh))...)
	}
	c.fresh[id.Partition] = max(c.fresh[id.Partition], id.Offset+1)
}

// advance sets the cursor. Events before it need not be named any more.
func (c *Client) advance(cursor string) {
	if cursor == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cursor, c.fresh = cursor, c.fresh[:0]
}

// saysLess reports whether a handshake may have been refused because it named events
// since the cursor, as by an old gateway. The next handshake names none.
func (c *Client) saysLess(err error) bool {
	refused, ok := errors.AsType[*HandshakeError](err)
	if !ok || refused.Status != http.StatusBadRequest {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	said := slices.ContainsFunc(c.fresh, func(next int64) bool { return next > 0 })
	c.fresh = c.fresh[:0]
	return said
}
