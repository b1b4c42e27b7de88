package gateway

import (
	"time"

	"eventstream/event"
	"eventstream/gateway/history"
	"eventstream/lane"
)

// mailbox is what waits for the worker.
type mailbox struct {
	posts   []post
	size    int     // bytes in posts: events, and a pointer's worth for each recipient
	drained []*conn // sockets that have sent all that was queued
}

// maxMail bounds the bytes of events that wait for a worker; then the
// lane reader waits. The worker waits for nobody.
const maxMail = 16 << 20

// post is what somebody leaves for the worker: what a reader has read, or a command.
type post struct {
	deliveries []delivery
	reader     int            // whose positions follow
	next       []int64        // positions after deliveries; nil if unchanged
	settled    lane.ControlID // addresses announced up to here are in use everywhere; zero if nothing new
	command    command        // to be applied last; nil if there is none
}

// delivery is an event and the seats of this worker that it is for.
type delivery struct {
	msg   *history.Event
	seats []event.Seat
}

// post leaves p in the mailbox. Deliveries wait while it is full.
func (s *worker) post(p post) {
	s.mu.Lock()
	for len(p.deliveries) > 0 && s.mail.size > maxMail && !s.stopped {
		s.room.Wait()
	}
	s.mail.posts = append(s.mail.posts, p)
	for i := range p.deliveries {
		s.mail.size += len(p.deliveries[i].msg.JSON) + 8*len(p.deliveries[i].seats)
	}
	s.mu.Unlock()
	s.wake()
}

// tell leaves a command in the mailbox.
func (s *worker) tell(c command) { s.post(post{command: c}) }

// drained tells that c's socket has sent all that was queued.
func (s *worker) drained(c *conn) {
	s.mu.Lock()
	s.mail.drained = append(s.mail.drained, c)
	s.mu.Unlock()
	s.wake()
}

func (s *worker) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// collect applies all mail.
func (s *worker) collect() {
	s.mu.Lock()
	s.work, s.mail = s.mail, mailbox{posts: s.work.posts[:0], drained: s.work.drained[:0]}
	s.room.Broadcast()
	s.mu.Unlock()
	s.now = time.Now()
	for i := range s.work.posts {
		s.apply(&s.work.posts[i])
	}
	clear(s.work.posts)
	for _, c := range s.work.drained {
		s.markDirty(c)
	}
	clear(s.work.drained)
}
