package gateway

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"eventstream/gateway/admission"
	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
)

// The Autobahn test suite wants a server that echoes. This one is made of the
// gateway's handshake, framing, compression and sockets.
type echo struct {
	engine socket.Engine

	mu     sync.Mutex
	packer framing.Deflater
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.URL.RawQuery = "subscriber_id=autobahn"
	ask, refused := admission.New(admission.Config{Compress: true}).WebSocket(r)
	if refused != nil {
		refused.Write(w)
		return
	}
	c := &echoConn{e: e, framing: ask.Framing}
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	nc.Write(ask.Answer)
	e.engine.Add(nc, c)
}

// echoConn is a connection of echo's.
type echoConn struct {
	e       *echo
	framing framing.Kind
	sock    socket.Socket
	in      *framing.Inbound
	deaf    bool // it is failed
}

func (c *echoConn) Socket() *socket.Socket { return &c.sock }
func (c *echoConn) Moved()                 {}
func (c *echoConn) Drained(bool)           {}
func (c *echoConn) Closed()                {}

// Data echoes what the client sends.
func (c *echoConn) Data(b []byte) {
	if c.deaf {
		return
	}
	var err *framing.Error
	c.in, err = c.in.Feed(b, framing.Rules{Limit: 16 << 20, Deflate: c.framing == framing.Deflated}, func(op byte, payload []byte) *framing.Error {
		switch op {
		case framing.OpPing:
			c.sock.Write(framing.NewFrame(framing.OpPong, payload))
		case framing.OpClose:
			code, err := framing.CloseStatus(payload)
			if err == nil {
				err = &framing.Error{Code: code, Bye: true}
			}
			return err
		case framing.OpText, framing.OpBinary:
			c.sock.Write(c.e.frame(c, op, payload))
		}
		return nil
	})
	if err != nil {
		c.in, c.deaf = nil, true
		c.sock.Write(framing.WebSocket.Close(err.Code, err.Reason))
		c.sock.Close()
	}
}

func (e *echo) frame(c *echoConn, op byte, payload []byte) []byte {
	if c.framing != framing.Deflated {
		return framing.NewFrame(op, payload)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packer.Pack(payload)
	frame, _ := e.packer.Seal(make([]byte, framing.HeadRoom), op, nil)
	return frame
}

// Cases that we can't meet, by intent: a message of 4 MiB in fragments of up to
// 4 KiB has more than maxFragments, and an echo of 8 MiB or more is more than may
// wait in a socket. Of those of group 13, some want a smaller window of ours.
var autobahnNotMet = []string{"9.3.1", "9.3.2", "9.3.3", "9.3.4", "9.4.1", "9.4.2", "9.4.3", "9.4.4", "9.1.5", "9.1.6", "9.2.5", "9.2.6"}

// TestAutobahn runs the suite itself, if EVENTSTREAM_WSTEST is its program, with all
// cases or those in EVENTSTREAM_WSTEST_CASES, such as 1.*,6.*. It is written in
// Python 2, so that TestProtocolCases has its cases too.
func TestAutobahn(t *testing.T) {
	wstest := os.Getenv("EVENTSTREAM_WSTEST")
	if wstest == "" {
		t.Skip("EVENTSTREAM_WSTEST is not set")
	}
	e := &echo{}
	e.engine = socket.NewPollers()
	if err := e.engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.engine.Stop()
	server := httptest.NewServer(e)
	defer server.Close()
	dir := t.TempDir()
	cases := strings.Split(cmp.Or(os.Getenv("EVENTSTREAM_WSTEST_CASES"), "*"), ",")
	spec, _ := json.Marshal(map[string]any{
		"outdir": dir, "servers": []map[string]string{{"url": "ws://" + server.Listener.Addr().String()}},
		"cases": cases, "exclude-cases": autobahnNotMet,
	})
	file := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(file, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), wstest, "-m", "fuzzingclient", "-s", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var results map[string]map[string]struct{ Behavior, BehaviorClose string }
	if err := json.Unmarshal(index, &results); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, agent := range results {
		for id, r := range agent {
			counts[r.Behavior]++
			good := slices.Contains([]string{"OK", "NON-STRICT", "INFORMATIONAL"}, r.Behavior) || r.Behavior == "UNIMPLEMENTED" && strings.HasPrefix(id, "13.")
			if !good || r.BehaviorClose != "OK" && r.BehaviorClose != "INFORMATIONAL" {
				t.Errorf("case %s: %s, close %s", id, r.Behavior, r.BehaviorClose)
			}
			if r.Behavior != "OK" {
				t.Logf("case %s: %s", id, r.Behavior)
			}
		}
	}
	t.Log(fmt.Sprint(counts))
}
