//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// loop is one epoll instance, its goroutine, and what its sockets got. Buffers and
// tally are for the goroutine only, until wait has returned.
type loop struct {
	epoll   int
	stop    int // eventfd
	buf     []byte
	tally   tally
	latency *hdrhistogram.Histogram // µs
	cut     int64                   // when sockets began to reconnect after they were cut off, in Unix microseconds
	caught  int64                   // when the last event came that was produced before
	hellos  atomic.Int64
	done    sync.WaitGroup

	mu      sync.Mutex
	sockets []*socket // by the index that epoll gives back
}

const (
	longest = 120_000_000 // µs, of what the histogram can hold
	stopID  = -1
)

func newLoop() (*loop, error) {
	l := &loop{buf: make([]byte, 256<<10), latency: hdrhistogram.New(1, longest, 3)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.stop, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: stopID}); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.done.Go(l.run)
	return l, nil
}

// add hands a connected socket over. Its part is looked at with the first bytes that come.
func (l *loop) add(s *socket) error {
	if err := unix.SetNonblock(s.fd, true); err != nil {
		return fmt.Errorf("set non-blocking: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets = append(l.sockets, s)
	// EPOLLOUT reports once, at once: for hello may have come with the handshake's answer.
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(len(l.sockets) - 1)})
}

// wait ends the loop.
func (l *loop) wait() {
	unix.Write(l.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	l.done.Wait()
	unix.Close(l.epoll)
	unix.Close(l.stop)
}

func (l *loop) run() {
	events := make([]unix.EpollEvent, 1024)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("epoll_wait: %v", err))
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == stopID {
				return
			}
			l.mu.Lock()
			s := l.sockets[e.Fd]
			l.mu.Unlock()
			if !s.failed {
				l.read(s)
			}
		}
	}
}

// read takes all that is there: the events are edges.
func (l *loop) read(s *socket) {
	for !s.failed {
		had := copy(l.buf, s.part)
		n, err := unix.Read(s.fd, l.buf[had:])
		now := time.Now().UnixMicro()
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if !s.hello {
				l.frames(s, l.buf[:had], now) // hello, with the handshake's answer
			}
			return
		case err != nil || n == 0:
			l.fail(s)
			return
		}
		l.frames(s, l.buf[:had+n], now)
	}
}

// frames takes the whole frames off b, and keeps the rest.
func (l *loop) frames(s *socket, b []byte, now int64) {
	for {
		op, payload, n, err := frame(b)
		if err != nil {
			l.fail(s)
			return
		}
		if n == 0 {
			break
		}
		b = b[n:]
		switch op {
		case opText:
			if string(payload) == centrifugePing {
				unix.Write(s.fd, masked(opText, centrifugePing))
			} else {
				had := s.hello
				s.message(payload, now, &l.tally, l.record)
				if !had && s.hello {
					l.hellos.Add(1)
				}
			}
		case opPing:
			unix.Write(s.fd, masked(opPong, string(payload)))
		case opClose:
			l.fail(s)
			return
		}
	}
	l.keep(s, b)
}

// keep keeps the beginning of a frame, and makes sure that there is room for the rest.
func (l *loop) keep(s *socket, b []byte) {
	if len(b) == 0 {
		s.part = nil
		return
	}
	s.part = append([]byte(nil), b...)
	if len(b) > len(l.buf)/2 {
		l.buf = make([]byte, 2*len(l.buf))
	}
}

func (l *loop) record(at, now int64) {
	if at < l.cut {
		l.caught = now
	}
	l.latency.RecordValue(min(max(now-at, 1), longest))
}

func (l *loop) fail(s *socket) {
	s.failed = true
	l.tally.Closed++
	unix.Close(s.fd)
}

// centrifugePing is answered by the same.
const centrifugePing = "{}"

// masked is a frame of a client, of at most 64 KiB. A mask of zeros is a mask.
func masked(op byte, payload string) []byte {
	head := []byte{0x80 | op, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		head = binary.BigEndian.AppendUint16([]byte{0x80 | op, 0x80 | 126}, uint16(len(payload)))
	}
	return append(append(head, 0, 0, 0, 0), payload...)
}
