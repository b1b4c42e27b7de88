package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// expectLimit bounds how long a message of the client is waited for.
const expectLimit = 10 * time.Second

// message returns what is sent: {in_s: 3} stands for a time in three seconds, {long: n} for a
// text, {pad: n} for data of n bytes.
func message(m map[string]any) []byte {
	text, _ := json.Marshal(filled(m)) // it comes from YAML
	return text
}

func filled(v any) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = filled(v[i])
		}
		return all
	case map[string]any:
		if in, ok := v["in_s"].(int); ok {
			return time.Now().Add(time.Duration(in) * time.Second).Unix()
		}
		if _, ok := v["long"]; ok {
			return textOf(v)
		}
		all := make(map[string]any, len(v))
		for key, value := range v {
			if n, ok := value.(int); ok && key == "pad" {
				value = strings.Repeat("x", n)
			}
			all[key] = filled(value)
		}
		return all
	}
	return v
}

// textOf returns a text, or the one that {long: n} stands for.
func textOf(v any) string {
	if m, ok := v.(map[string]any); ok {
		n, _ := m["long"].(int)
		return strings.Repeat("Zm9v", (n+3)/4)[:n]
	}
	return fmt.Sprint(v)
}

func playSocket(w http.ResponseWriter, req *http.Request, r *run, steps []Step) {
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{"eventstream.v1"}, InsecureSkipVerify: true})
	if err != nil {
		return // it is answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	got := make(chan map[string]any, 64)
	reading := false
	read := func() {
		if !reading {
			reading = true
			go readAll(ctx, ws, got)
		}
	}
	for _, s := range steps {
		switch {
		case s.Send != nil:
			err = sendParts(ctx, ws, message(s.Send), max(1, s.Parts))
		case s.Expect != nil:
			read()
			r.expect(got, s.Expect)
		case s.Close != nil:
			ws.Close(websocket.StatusCode(s.Close.Code), s.Close.Reason)
			return
		case s.Drop:
			drop(req)
			return
		case s.End:
			req.Context().Value(connKey{}).(net.Conn).Close()
			return
		case s.Hold:
			hold(req)
			return
		case s.Quiet:
			read()
			for range got { // until the client has gone
			}
			return
		}
		if err != nil {
			return // the client has gone
		}
	}
}

// hold says nothing until a client has gone, or has sent a close frame: some can't end a
// connection without an answer to that.
func hold(req *http.Request) {
	c := req.Context().Value(connKey{}).(net.Conn)
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil || n > 0 && buf[0]&0xf == 8 {
			return
		}
	}
}

func readAll(ctx context.Context, ws *websocket.Conn, to chan<- map[string]any) {
	defer close(to)
	for {
		_, text, err := ws.Read(ctx)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(text, &m) == nil {
			select {
			case to <- m:
			case <-ctx.Done():
				return
			}
		}
	}
}

func sendParts(ctx context.Context, ws *websocket.Conn, text []byte, parts int) error {
	out, err := ws.Writer(ctx, websocket.MessageText)
	if err != nil {
		return err
	}
	for i := range parts {
		if _, err := out.Write(text[i*len(text)/parts : (i+1)*len(text)/parts]); err != nil {
			return err
		}
	}
	return out.Close()
}

// expect waits for a message with the given fields. Others may come before it.
func (r *run) expect(got <-chan map[string]any, want map[string]any) {
	limit := time.After(expectLimit)
	var last any
	for {
		select {
		case m, ok := <-got:
			if !ok {
				r.wrong("the client left, and sent %v; want %v", last, want)
				return
			}
			if has(m, want) {
				return
			}
			last = m
		case <-limit:
			r.wrong("the client sent %v; want %v", last, want)
			return
		}
	}
}

func has(m, want map[string]any) bool {
	for key, value := range want {
		if m[key] != value {
			return false
		}
	}
	return true
}

// playStream plays a stream of server-sent events. Each message with a cursor, or that
// events came in, has an id, as a gateway's have.
func playStream(w http.ResponseWriter, req *http.Request, r *run, steps []Step) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Connection", "close")
	out := http.NewResponseController(w)
	asked := req.URL.Query().Get("cursor") + req.Header.Get("Last-Event-ID")
	send := func(m map[string]any) {
		id := r.idOf(m, asked != "")
		if id != "" {
			id = "id: " + id + "\n"
		}
		fmt.Fprintf(w, "%sevent: %s\ndata: %s\n\n", id, m["type"], message(m))
		out.Flush()
	}
	w.WriteHeader(http.StatusOK)
	out.Flush()
	for _, s := range steps {
		switch {
		case s.Send != nil:
			send(s.Send)
		case s.Close != nil:
			send(map[string]any{"type": "close", "close_code": s.Close.Code, "reason": s.Close.Reason})
			return
		case s.Drop:
			drop(req)
			return
		case s.Hold, s.Quiet:
			<-req.Context().Done()
			return
		}
	}
}

// idOf returns the id of a message in a stream, and notes it: its cursor, or one that also says
// which events came. A hello that does not resume has none: the gap that follows it has.
func (r *run) idOf(m map[string]any, resumes bool) string {
	id := ""
	switch m["type"] {
	case "hello":
		if m["resumed"] == true || !resumes && r.of.Client == (Client{}) {
			id = textOf(m["cursor"])
		}
	case "cursor":
		id = textOf(m["cursor"])
	case "gap":
		id = textOf(m["to"])
	case "events":
		if c, ok := m["cursor"]; ok {
			id = textOf(c)
		} else {
			id = fmt.Sprintf("after-%d", time.Now().UnixNano())
		}
	}
	if id != "" {
		r.mu.Lock()
		r.lastID = id
		r.mu.Unlock()
	}
	return id
}
