package framing

import (
	"bytes"
	"fmt"
	"time"
)

// Server-sent events, HTML standard section 9.2:
//
//	data: {"type":"events","events":[…],"cursor":"…"}
//	event: events
//	id: <cursor>

// DataField is the name of the field that holds a message.
const DataField = "data: "

// appendLine appends JSON. It may have line ends between its tokens, which would end the
// field: a space says the same there.
func appendLine(buf, json []byte) []byte {
	buf = append(buf, json...)
	line := buf[len(buf)-len(json):]
	for _, end := range []byte{'\n', '\r'} {
		for at := 0; ; {
			i := bytes.IndexByte(line[at:], end)
			if i < 0 {
				break
			}
			at += i
			line[at] = ' '
		}
	}
	return buf
}

// typeAt is where a message's type stands in its payload.
const typeAt = len(`{"type":"`)

// appendEventEnd appends the fields that come after a message's data. A ping is a
// comment.
func appendEventEnd(buf []byte, op byte, cursor string) []byte {
	if op == OpPing {
		return append(buf, ":\n\n"...)
	}
	kind := buf[HeadRoom+typeAt:]
	kind = kind[:bytes.IndexByte(kind, '"')]
	buf = append(buf, "\nevent: "...)
	buf = append(buf, kind...)
	if cursor != "" {
		buf = append(buf, "\nid: "...)
		buf = append(buf, cursor...)
	}
	return append(buf, "\n\n"...)
}

func sealEvent(buf []byte, op byte) []byte {
	if op == OpPing {
		return buf[HeadRoom:]
	}
	return buf[HeadRoom-copy(buf[HeadRoom-len(DataField):], DataField):]
}

// AppendRetry tells an EventSource how long to wait before it comes back, until it
// is told otherwise. It is a field of the message that has to follow: some clients
// take it alone for a message without data.
func AppendRetry(b []byte, wait time.Duration) []byte {
	return fmt.Appendf(b, "retry: %d\n", wait.Milliseconds())
}
