package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/auth"
	"eventstream/internal/ops"
	"eventstream/internal/testenv"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/store"
)

// send dials and writes. The connection has no large buffer, so that what is not read
// is soon noticed.
func (s *service) send(text string) net.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(nc, text); err != nil {
		s.t.Fatal(err)
	}
	return nc
}

// trickle writes a piece every 10 ms until that fails, or it wrote so many.
func trickle(nc net.Conn, piece string, times int) {
	for range times {
		if _, err := io.WriteString(nc, piece); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const importHead = "POST /filters:import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// An import that comes too slowly is cut, and one that is slow but alive is not.
func TestSlowImports(t *testing.T) {
	line := chunk(adas + "\n")
	// Of a body whose length is told fasthttp reads 8 KiB before we see the request, within
	// ReadTimeout.
	known := importHead + "Content-Length: 100000\r\n\r\n" + strings.Repeat(adas+"\n", 9<<10/len(adas))
	for _, tt := range []struct {
		name, begin, piece string
		times              int
		end                string
		status             int
		want               string
	}{
		{"nothing", importHead + "Content-Length: 1000\r\n\r\n", "", 0, "", 408, "request-timeout"},
		{"it stops in the middle", known, "", 0, "", 408, "nothing came for 300ms"},
		{"it stops after a line", importHead + "Transfer-Encoding: chunked\r\n\r\n" + line, "", 0, "", 408, "nothing came for 300ms"},
		{"bytes that trickle", known, " ", 1 << 20, "", 408, "less than 1000 bytes a second"},
		{"chunks that trickle", importHead + "Transfer-Encoding: chunked\r\n\r\n", chunk(" "), 1 << 20, "", 408, "less than 1000 bytes a second"},
		{"slow and alive", importHead + "Transfer-Encoding: chunked\r\n\r\n", line, 100, "0\r\n\r\n", 200, `"imported":100`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, api.Config{MaxImports: 1, LeastRate: 1000, ReadPatience: 300 * time.Millisecond}, &store.Memory{})
			nc := s.send(tt.begin)
			go func() {
				trickle(nc, tt.piece, tt.times)
				io.WriteString(nc, tt.end)
			}()
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("%d %s, want %d with %s", resp.StatusCode, body, tt.status, tt.want)
			}
			want(t, "an import afterwards", s.imports(adas).status, 200)
		})
	}
}

// A stream that is not read, or hardly, is cut, and its slot is free again.
func TestStreamsThatAreNotRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		read int // bytes in 10 ms
		cut  bool
	}{{"not at all", 0, true}, {"hardly", 1, true}, {"slowly", 8 << 10, false}} {
		for _, path := range []string{"/subscribers/ann/events?since=1h", "/filters:export"} {
			t.Run(tt.name+" "+path, func(t *testing.T) {
				t.Parallel()
				const size = 1 << 20
				some := func(ctx context.Context, r replay.Request, w *replay.Writer) error {
					if err := w.Begin([]int64{0}, []int64{1 << 40}, nil); err != nil {
						return err
					}
					for next := int64(11); next < 11+size/10_000; next++ {
						if err := w.Batch(replay.Batch{Partition: 0, Next: next, Entry: packed(fmt.Sprintf(`{"event_type":"a","pad":%q}`, strings.Repeat("x", 10_000)))}); err != nil {
							return err
						}
					}
					return w.End()
				}
				cfg := api.Config{MaxStreams: 1, LeastRate: 10_000, WritePatience: time.Second}
				s := startAll(t, cfg, &store.Memory{}, &publisher{}, lane.NewMemory(), replays(t, some))
				wide := `{"subscriber_id":"ada","user_ids":["` + strings.Repeat("x", 200) + `"]}` + "\n"
				want(t, "import", s.imports(strings.Repeat(wide, size/300)).status, 200)
				nc := s.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
				if !tt.cut {
					n, whole, err := readSlowly(nc, tt.read)
					if err != nil || n < size/2 || !whole {
						t.Errorf("read %d bytes, whole %t, %v; want all", n, whole, err)
					}
					return
				}
				ended := make(chan struct{})
				defer close(ended)
				go func() {
					for b := make([]byte, 1); tt.read > 0; {
						select {
						case <-ended:
							return
						case <-time.After(10 * time.Millisecond):
							nc.Read(b)
						}
					}
				}()
				testenv.Eventually(t, 30*time.Second, func() error {
					if !strings.Contains(s.do("GET", "/metrics", "").body, `slow_clients_total{of="stream"} 1`) {
						return errors.New("it was not cut")
					}
					return nil
				})
				testenv.Eventually(t, 10*time.Second, func() error { return status(s.do("GET", "/filters:export?subscriber_id=bob", ""), 200) })
			})
		}
	}
}

// readSlowly reads so many bytes every 10 ms, up to the end, and tells whether that was
// that of a whole answer.
func readSlowly(nc net.Conn, piece int) (n int, whole bool, err error) {
	for b := make([]byte, piece); ; time.Sleep(10 * time.Millisecond) {
		m, err := nc.Read(b)
		if m > 0 {
			whole = bytes.HasSuffix(b[:m], []byte("\n\r\n"))
		}
		n += m
		if err == io.EOF {
			return n, whole, nil
		}
		if err != nil {
			return n, whole, err
		}
	}
}

// One key can't hold all slots, nor can one address where there are no keys.
func TestSlotsOfOneCaller(t *testing.T) {
	keys := &keyring{}
	one, other := keys.create(t, auth.ScopeWrite), keys.create(t, auth.ScopeWrite)
	proxies, err := ops.ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name       string
		s          *service
		one, other string // headers
	}{
		{"keys", startGuarded(t, api.Config{MaxImports: 4, MaxStreams: 4, StreamsEach: 2}, keys), "Authorization: Bearer " + one, "Authorization: Bearer " + other},
		{"addresses", start(t, api.Config{MaxImports: 4, MaxStreams: 4, StreamsEach: 2, Limits: api.LimitConfig{Proxies: proxies}}, &store.Memory{}), "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"},
	} {
		s := tt.s
		header := func(line string) []string { k, v, _ := strings.Cut(line, ": "); return []string{k, v} }
		wide := `{"subscriber_id":"ada","user_ids":["` + strings.Repeat("x", 200) + `"]}` + "\n"
		if a := s.do("POST", "/filters:import", strings.Repeat(wide, 20_000), append(header(tt.one), "Content-Type", "application/x-ndjson")...); a.status != 200 {
			t.Fatalf("import: %d %s", a.status, a.body)
		}
		for _, what := range []struct{ method, path, body, slow string }{
			{"POST", "/filters:import", adas, importHead + tt.one + "\r\nTransfer-Encoding: chunked\r\n\r\n"},
			{"GET", "/filters:export?subscriber_id=bob", "", "GET /filters:export HTTP/1.1\r\nHost: localhost\r\n" + tt.one + "\r\n\r\n"},
		} {
			testenv.Eventually(t, 20*time.Second, func() error {
				err := status(s.do(what.method, what.path, what.body, header(tt.one)...), 429)
				if err != nil {
					s.send(what.slow) // again: what was just asked may have had the place of the one before
				}
				return err
			})
			a := s.do(what.method, what.path, what.body, header(tt.one)...)
			if !strings.Contains(a.body, "too-many-at-once") || a.header.Get("Retry-After") == "" {
				t.Errorf("%s %s by one of %s: %d %s", what.method, what.path, tt.name, a.status, a.body)
			}
			if a := s.do(what.method, what.path, what.body, header(tt.other)...); a.status != 200 {
				t.Errorf("%s %s by another of %s: %d %s", what.method, what.path, tt.name, a.status, a.body)
			}
		}
	}
}

// hanging is a Store that does not answer, and minds no context.
type hanging struct {
	store.Memory
	hangs   atomic.Bool
	pings   atomic.Int32
	release chan struct{}
}

func (h *hanging) Ping(context.Context) error {
	h.pings.Add(1)
	if h.hangs.Load() {
		<-h.release
	}
	return nil
}

// The store is asked once a second at most, however many want to know whether we are
// ready; and they are answered when it hangs.
func TestReadinessIsKept(t *testing.T) {
	st := &hanging{release: make(chan struct{})}
	s := start(t, api.Config{}, st)
	began := time.Now()
	for range 200 {
		want(t, "status", s.do("GET", "/readyz", "").status, 200)
	}
	if got, most := st.pings.Load(), int32(time.Since(began)/time.Second)+1; got > most {
		t.Errorf("200 askers made %d pings, want %d at most", got, most)
	}
	st.hangs.Store(true)
	defer close(st.release)
	testenv.Eventually(t, 20*time.Second, func() error {
		a := s.do("GET", "/readyz", "")
		if a.status != 503 || !strings.Contains(a.body, `"postgres":"no answer for`) {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	want(t, "livez", s.do("GET", "/livez", "").status, 200)
}

// Strangers are counted where they get pages, and probes are not.
func TestPagesAreLimited(t *testing.T) {
	s := start(t, api.Config{Limits: api.LimitConfig{PerAddress: 1, Redis: &clock{}}}, &store.Memory{})
	want(t, "the first page", s.do("GET", "/docs", "").status, 200)
	for _, tt := range []struct {
		path   string
		status int
	}{{"/docs", 429}, {"/openapi.json", 429}, {"/readyz", 200}, {"/health", 200}, {"/livez", 200}} {
		want(t, tt.path, s.do("GET", tt.path, "").status, tt.status)
	}
}
