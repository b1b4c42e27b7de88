package delivery

import (
	"sync"

	"eventstream/gateway/reader"
)

// mailbox is where readers and everybody else leave what is for a worker.
type mailbox struct {
	mu      sync.Mutex
	room    sync.Cond // signalled when the worker has taken the mail
	mail    mail
	stopped bool
	ready   chan struct{} // there is mail; capacity 1
}

// mail is what waits for the worker.
type mail struct {
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

// command is one thing for the worker to do, beside deliveries.
type command interface {
	apply(w *worker)
}

// Post is for reader.Worker.
func (m *mailbox) Post(p reader.Post) { m.post(post{Post: p}) }

// post leaves p in the mailbox. Deliveries wait while it is full.
func (m *mailbox) post(p post) {
	m.mu.Lock()
	for len(p.Deliveries) > 0 && m.mail.size > maxMail && !m.stopped {
		m.room.Wait()
	}
	m.mail.posts = append(m.mail.posts, p)
	for i := range p.Deliveries {
		m.mail.size += len(p.Deliveries[i].Event.JSON) + 8*len(p.Deliveries[i].Seats)
	}
	m.mu.Unlock()
	m.wake()
}

// tell leaves a command in the mailbox.
func (m *mailbox) tell(c command) { m.post(post{command: c}) }

// drained tells that c's socket has sent all that was queued.
func (m *mailbox) drained(c *conn) {
	m.mu.Lock()
	m.mail.drained = append(m.mail.drained, c)
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) wake() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take returns all mail. What was taken before gives its memory to what comes.
func (m *mailbox) take(before mail) (all mail) {
	m.mu.Lock()
	all, m.mail = m.mail, mail{posts: before.posts[:0], drained: before.drained[:0]}
	m.room.Broadcast()
	m.mu.Unlock()
	return all
}

// bytes returns how much waits.
func (m *mailbox) bytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mail.size
}

// stop lets go of those who wait for room.
func (m *mailbox) stop() {
	m.mu.Lock()
	m.stopped = true
	m.room.Broadcast()
	m.mu.Unlock()
}
