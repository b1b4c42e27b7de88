//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

// storm cuts all sockets off, without a word, and has all of them come back at once
// after a while. It returns when each has been greeted again.
func (h *holder) storm(away time.Duration) error {
	h.end()
	for _, s := range h.sockets {
		if !s.failed {
			unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(s.fd)
			s.seam, s.hello = s.last, false
		}
	}
	time.Sleep(away)
	began := time.Now()
	if err := h.connect(began.UnixMicro()); err != nil {
		return err
	}
	for every := time.Tick(time.Millisecond); ; <-every {
		greeted := int64(0)
		for _, l := range h.loops {
			greeted += l.hellos.Load()
		}
		if greeted+h.sum.Tally.Closed >= int64(len(h.sockets)) {
			h.sum.Back = time.Since(began)
			return nil
		}
		if time.Since(began) > patience*time.Second {
			return fmt.Errorf("%d of %d sockets were greeted again within %d s", greeted, len(h.sockets), patience)
		}
	}
}

// place is where a socket goes on when it comes back, in the words of the server. One
// that has none of them gets what is sent from then on.
type place struct {
	cursor string // ours
	epoch  string // centrifuge's, of its channel
	offset int64
	name   string // of the channel
}

var (
	markCursor  = []byte(`"cursor":"`)
	markChannel = []byte(`"subs":{"`)
	markEpoch   = []byte(`"epoch":"`)
	markOffset  = []byte(`"offset":`)
)

// note keeps what a message says of it. Events have none of the marks.
func (p *place) note(m []byte) {
	p.cursor = text(m, markCursor, p.cursor)
	if bytes.HasPrefix(m, markReply) {
		p.name, p.epoch = text(m, markChannel, p.name), text(m, markEpoch, p.epoch)
	}
	for p.name != "" {
		_, rest, ok := bytes.Cut(m, markOffset)
		if !ok {
			return
		}
		var n int64
		n, m = number(rest)
		p.offset = max(p.offset, n)
	}
}

// text returns what stands between the last mark and the next quote, or else what there was.
func text(m, mark []byte, was string) string {
	i := bytes.LastIndex(m, mark)
	if i < 0 {
		return was
	}
	b, _, _ := bytes.Cut(m[i+len(mark):], []byte{'"'})
	return string(b)
}

// query is added to the URL.
func (p *place) query() string {
	if p == nil || p.cursor == "" {
		return ""
	}
	return "&cursor=" + url.QueryEscape(p.cursor)
}

// request is centrifuge's first message.
func (p *place) request(name string) string {
	if p == nil || p.name == "" {
		return fmt.Sprintf(`{"id":1,"connect":{"name":%q}}`, name)
	}
	return fmt.Sprintf(`{"id":1,"connect":{"name":%q,"subs":{%q:{"recover":true,"epoch":%q,"offset":%d}}}}`, name, p.name, p.epoch, p.offset)
}
