package gateway

import (
	"fmt"

	"eventstream/event"
	"eventstream/gateway/position"
)

// maxOffsetsAhead is how far a cursor may be ahead of what we have read: the gateway
// that gave it may have been ahead of us, but not by a million events a second for
// twelve days. What lies between is for Kafka to know.
const maxOffsetsAhead = 1 << 40

// checkReach refuses a subscriber's cursor that is further than any gateway can have
// come. While we have read nothing, that is not known.
func (t *topics) checkReach(c *event.Cursor, subscriber string) error {
	topic := t.topic.Load()
	if c == nil || topic == nil || c.Topic != topic.ID {
		return nil
	}
	at := t.readerOf(subscriber).Positions()
	if at == nil {
		return nil
	}
	for p, n := range c.Next {
		if last := position.Of(at, int32(p)); n-maxOffsetsAhead > last {
			return fmt.Errorf("it is at offset %d of partition %d, where there are no events yet; the last ones are near %d", n, p, last)
		}
	}
	return nil
}
