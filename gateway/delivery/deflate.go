package delivery

import (
	"slices"

	"eventstream/gateway/framing"
	"eventstream/gateway/history"
)

// worthDeflating reports whether messages are to be compressed.
func worthDeflating(messages []*history.Event) bool {
	size := 0
	for _, m := range messages {
		if size += len(m.JSON); size >= framing.MinDeflate {
			return true
		}
	}
	return false
}

// deflater compresses events for a worker. It keeps the last ones: an event
// for many is compressed once for all of them, whatever their cursors.
type deflater struct {
	framing.Deflater
	of []*history.Event // what is packed
	in []byte           // memory to encode in
}

// seal makes a compressed events message of buf, which is framing.HeadRoom free bytes.
func (d *deflater) seal(buf []byte, messages []*history.Event, cursor string) (frame, grown []byte) {
	if !slices.Equal(d.of, messages) {
		d.compress(messages)
	}
	d.in = appendEventsTail(d.in[:0], cursor)
	return d.Seal(buf, framing.OpText, d.in)
}

func (d *deflater) compress(messages []*history.Event) {
	if cap(d.in) > 1<<20 { // a huge event's buffer is not kept for others
		d.in = nil
	}
	d.in = appendEvents(d.in[:0], framing.Deflated, messages)
	d.Pack(d.in)
	d.of = append(d.of[:0], messages...)
}
