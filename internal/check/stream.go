package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"eventstream/wire"
)

// stream is how messages come. Only one goroutine reads, and acknowledges.
type stream interface {
	read() ([]byte, error) // the next message
	ping(context.Context) error
	ack(place)  // if the stream can; one that fails is as good as none
	id() string // of the last message, if it has one: a cursor
	close()     // as the protocol says
	closeNow()
}

// maxMessage is the longest message that is read, by a client that does not say what it takes.
const maxMessage = 64 << 20

type webSocket struct{ *websocket.Conn }

func openWebSocket(ctx context.Context, client *http.Client, addr string, q url.Values, longest int, limit time.Duration) (stream, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws?"+q.Encode(), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(int64(longest))
	return webSocket{ws}, nil
}

func (s webSocket) read() ([]byte, error) {
	_, b, err := s.Read(context.Background())
	return b, err
}

func (s webSocket) ping(ctx context.Context) error { return s.Ping(ctx) }
func (s webSocket) close()                         { s.Close(websocket.StatusNormalClosure, "") }
func (s webSocket) closeNow()                      { s.CloseNow() }

func (s webSocket) id() string { return "" }

func (s webSocket) ack(at place) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	b, err := json.Marshal(wire.Request{Type: wire.Ack, Cursor: at.cursor, Seen: at.seen()})
	if err == nil {
		s.Write(ctx, websocket.MessageText, b)
	}
}

// eventSource reads server-sent events.
type eventSource struct {
	body   io.Closer
	lines  *bufio.Scanner
	cancel context.CancelFunc
	last   string // id
}

func openSSE(ctx context.Context, client *http.Client, addr string, q url.Values, longest int, limit time.Duration) (stream, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the body is read by it
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/sse?"+q.Encode(), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	// As a browser that comes back does.
	if last := q.Get("cursor"); last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	late := time.AfterFunc(limit, cancel)
	resp, err := client.Do(req)
	late.Stop()
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("%s", resp.Status)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, longest+len("\r\n"))
	return &eventSource{body: resp.Body, lines: lines, cancel: cancel}, nil
}

// read returns the data of the next event that ends as it should.
func (s *eventSource) read() ([]byte, error) {
	var data []byte
	for s.lines.Scan() {
		if b, ok := bytes.CutPrefix(s.lines.Bytes(), []byte("data: ")); ok {
			data = append(data, b...)
		}
		if b, ok := bytes.CutPrefix(s.lines.Bytes(), []byte("id: ")); ok {
			s.last = string(b)
		}
		if len(s.lines.Bytes()) == 0 && len(data) > 0 {
			return data, nil
		}
	}
	if err := s.lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

func (s *eventSource) ping(context.Context) error { return nil }
func (s *eventSource) ack(place)                  {}
func (s *eventSource) id() string                 { return s.last }
func (s *eventSource) close()                     { s.closeNow() }

func (s *eventSource) closeNow() {
	s.cancel()
	s.body.Close()
}
