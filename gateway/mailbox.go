package gateway

import (
	"time"

	"eventstream/gateway/reader"
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

// post is what is left for the worker: what a reader has read, or a command.
type post struct {
	reader.Post
	command command // to be applied last; nil if there is none
}

// Post is for reader.Worker.
func (s *worker) Post(p reader.Post) { s.post(post{Post: p}) }

// post leaves p in the mailbox. Deliveries wait while it is full.
func (s *worker) post(p post) {
	s.mu.Lock()
	for len(p.Deliveries) > 0 && s.mail.size > maxMail && !s.stopped {
		s.room.Wait()
	}
	s.mail.posts = append(s.mail.posts, p)
	for i := range p.Deliveries {
		s.mail.size += len(p.Deliveries[i].Event.JSON) + 8*len(p.Deliveries[i].Seats)
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
