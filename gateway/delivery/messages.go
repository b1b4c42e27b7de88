package delivery

import (
	"eventstream/gateway/framing"
	"eventstream/gateway/history"
	"eventstream/wire"
)

// A client takes messages up to some size, and fails with one that is larger; then it
// resumes, and gets the same message again, for ever. 32 KiB is what coder/websocket takes
// when nobody has said anything else; others begin at 64 KiB.
const defaultMaxMessage = 32 << 10

// envelope is what an events message has beside its events and a cursor, and the name of
// the field in which a stream has it.
const envelope = len(`{"type":"events","events":[],"cursor":""}`) + len(framing.DataField)

// bytesOf returns how many bytes messages are in one, with the commas between them.
func bytesOf(messages []*history.Event) (n int) {
	for _, m := range messages {
		n += len(m.JSON) + 1
	}
	return n - 1
}

// fit returns how many of the messages go into one with that much room, one at least, and
// whether they do.
func fit(messages []*history.Event, room int) (n int, fits bool) {
	used := -1
	for i, m := range messages {
		if used += len(m.JSON) + 1; i > 0 && used > room {
			return i, used-len(m.JSON)-1 <= room
		}
	}
	return len(messages), used <= room
}

// appendEvents appends an events message up to its last event.
func appendEvents(buf []byte, f framing.Kind, messages []*history.Event) []byte {
	buf = wire.AppendEventsHead(buf)
	for i, m := range messages {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = f.AppendJSON(buf, m.JSON)
	}
	return buf
}

func appendEventsTail(buf []byte, cursor string) []byte {
	if cursor == "" {
		return append(buf, wire.EventsTail...)
	}
	return wire.AppendEventsTail(buf, cursor)
}
