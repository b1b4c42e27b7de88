package gateway

import (
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/lane"
	"eventstream/wire"
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

// post is one thing for the worker to do.
type post struct {
	deliveries []delivery
	reader     int            // whose positions follow; verbTopic: how many there are
	next       []int64        // positions after deliveries; nil if unchanged
	settled    lane.ControlID // addresses announced up to here are in use everywhere; zero if nothing new

	conn    *conn
	what    verb
	join    lane.ControlID // verbOpen: where its seat was announced
	ask     ask            // verbOpen, verbGap
	http    []byte         // verbOpen: answer to the handshake
	text    []byte         // verbTell: the message
	claims  *auth.Claims   // verbRenew: of the new token
	from    []int64        // verbOpen, verbGap: where a resumed connection goes on; verbReplay: after batch; verbEnd: for its last cursor, if not nil
	floor   []int64        // verbOpen: what is live begins here; nil if with its seat
	gap     string         // verbOpen, verbGap: why the cursor can't be resumed in full; "" if it can
	missing []wire.Missing // verbOpen, verbGap: what is missing
	batch   []*message     // verbReplay
	done    chan struct{}  // verbReplay: closed when the batch has left, or never will; verbVisit

	visit func(*worker, *conn) // verbVisit; then done is closed

	ending            // verbEnd, verbDismiss
	of     int        // verbDismiss: of so many connections one is closed
	upTo   event.Seat // verbDismiss: the last seat concerned
	bye    bool       // verbEnd: the client has closed already
}

// delivery is an event and the seats of this worker that it is for.
type delivery struct {
	msg   *message
	seats []event.Seat
}

type verb uint8

const (
	verbNone    verb = iota
	verbJoin         // conn exists, events for it wait
	verbOpen         // its socket is open: say hello
	verbReplay       // earlier events, before the live ones
	verbLive         // no more earlier events
	verbGap          // some of the earlier events are gone
	verbTell         // it is sent a message
	verbRenew        // it has a new token
	verbAbort        // the replay failed: it has to reconnect
	verbEnd          // it is to be closed
	verbClosed       // its socket is closed
	verbDismiss      // some connections are to be closed
	verbVisit        // visit is called with every connection
	verbTopic        // another topic is read
)

// post leaves p in the mailbox. Deliveries wait while it is full.
func (s *worker) post(p post) {
	s.mu.Lock()
	for len(p.deliveries) > 0 && s.mail.size > maxMail && !s.stopped {
		s.room.Wait()
	}
	s.mail.posts = append(s.mail.posts, p)
	for i := range p.deliveries {
		s.mail.size += len(p.deliveries[i].msg.json) + 8*len(p.deliveries[i].seats)
	}
	s.mu.Unlock()
	s.wake()
}

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
