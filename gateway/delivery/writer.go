package delivery

import (
	"time"

	"eventstream/event"
	"eventstream/gateway/framing"
)

// writer makes the messages of a worker's connections, and hands them to their sockets as
// frames. It knows nothing of what waits, and for whom: that is the worker's.
type writer struct {
	cfg     *Config
	metrics *metrics
	topic   event.TopicID
	next    [][]int64 // positions, by reader: every event below has been queued for its recipients
	owing   []*conn   // have got events without a cursor
	scratch []byte
	now     time.Time // of a few writes: to ask costs as much as half of the work for one

	counts counts

	deflater deflater
}

// positions returns how far the lanes of c's events have been queued.
func (w *writer) positions(c *conn) []int64 { return w.next[c.reader.Index()] }

// send writes one frame with the given payload.
func (w *writer) send(c *conn, op byte, payload []byte) {
	w.seal(c, op, append(w.scratch[:framing.HeadRoom], payload...), "")
}

// answer writes an answer to something that the client sent.
func (w *writer) answer(c *conn, payload []byte) {
	if c.mayAnswer(len(payload), w.metrics.unread) {
		w.send(c, framing.OpText, payload)
	}
}

// sendCursor writes a message from after which the client can resume with cursor.
func (w *writer) sendCursor(c *conn, payload []byte, cursor string) {
	w.seal(c, framing.OpText, append(w.scratch[:framing.HeadRoom], payload...), cursor)
}

func (w *writer) seal(c *conn, op byte, buf []byte, cursor string) {
	frame, buf := c.framing.Seal(buf, op, cursor)
	w.writeFrame(c, frame, buf)
}

// writeFrame writes a frame that stands in buf, and keeps buf for the next one.
func (w *writer) writeFrame(c *conn, frame, buf []byte) {
	c.sock.Write(frame)
	w.counts.frames.Add(1)
	if cap(buf) <= 1<<20 { // a huge event's buffer is not kept
		w.scratch = buf
	}
}
