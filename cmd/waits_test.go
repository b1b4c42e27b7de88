package cmd_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestWaitsEnd has each port meet requests that never come to their end. Each connection
// is closed; the shorter the time, the better, but only that it ends is promised.
func TestWaitsEnd(t *testing.T) {
	p := newPipeline(t)
	p.env = append(p.env, "EVENTSTREAM_REPLAY_SECRET="+strings.Repeat("s", 32))
	api := p.service("api").addr
	filterAdmin, pages := testenv.Addr(t), testenv.Addr(t)
	filter := p.service("filter", "--admin", filterAdmin).addr
	gateway := p.service("gateway", "--pages", pages).addr

	var ends sync.WaitGroup
	const body, chunked = "Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"
	for _, port := range []struct {
		name, addr string
		requests   []string
	}{
		{"api", api, []string{"GET /livez", "GET /filters", "POST /filters", "POST /filters:test", "POST /filters:import", "OPTIONS /filters", "GET /nothing"}},
		{"filter", filter, []string{"GET /livez", "GET /readyz", "GET /metrics", "POST /replay", "GET /nothing"}},
		{"filter's profiles", filterAdmin, []string{"GET /debug/pprof/", "POST /debug/pprof/symbol"}},
		{"gateway", gateway, []string{"GET /livez", "GET /readyz", "GET /", "GET /ws?subscriber_id=ada", "GET /sse?subscriber_id=ada", "OPTIONS /sse", "POST /ws"}},
		{"gateway's pages", pages, []string{"GET /metrics", "GET /readyz", "GET /nothing"}},
	} {
		for _, request := range port.requests {
			head := request + " HTTP/1.1\r\nHost: localhost\r\n"
			for _, tt := range []struct{ name, send, trickle string }{
				{"a body that never comes", head + body, ""},
				{"one that trickles", head + body, "x"},
				{"chunks that trickle", head + chunked, "1\r\nx\r\n"},
				{"half a head", head + "X-Slow: ", ""},
				{"a head that trickles", head + "X-Slow: ", "x"},
				{"pipelined after a good one", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + head + body, ""},
			} {
				ends.Go(func() {
					if err := end(port.addr, tt.send, tt.trickle); err != nil {
						t.Errorf("%s: %s: %s: %v", port.name, request, tt.name, err)
					}
				})
			}
		}
	}
	ends.Wait()
}

// end sends a request, and a piece of the rest now and then, and waits until the other
// side closes the connection.
func end(addr, send, trickle string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(3 * time.Minute))
	io.WriteString(nc, send)
	if trickle != "" {
		go func() {
			for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
				_, err = io.WriteString(nc, trickle)
			}
		}()
	}
	_, err = io.Copy(io.Discard, nc)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// TestIdleConnections has 500 connections that do nothing beside a gateway that takes 20
// which are not admitted: clients get in, and get their events.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.service("api")
	p.service("filter")
	gateway := p.service("gateway", "--max-unadmitted", "20", "--handshake-timeout", "1m")
	p.addFilter(everything("ada"))
	for i := range 500 {
		nc, err := net.Dial("tcp", gateway.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: localhost\r\n"[:i%20])
	}
	listen := p.start("listen", "--url", "ws://"+gateway.addr, "ada")
	listen.says("connected", 30*time.Second)
	p.send(p.producer(), parseSource(t, []byte(`{"event_type":"purchase","event_id":"one","user_id":"u"}`)))
	listen.says(`"event_id":"one"`, 20*time.Second)
}
