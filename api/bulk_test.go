package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/store"
)

func (s *service) imports(body string) answer {
	s.t.Helper()
	return s.do("POST", "/filters:import", body, "Content-Type", "application/x-ndjson")
}

func TestImport(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	a := s.imports(adas + "\n\r\n" + `{"subscriber_id":"bob","expr":"a == 1"}` + "\r\n  \n" + adas)
	want(t, "status", a.status, 200)
	want(t, "body", a.body, `{"imported":3}`+"\n")
	want(t, "published", s.publisher.bulk, 1)

	// What is exported can be imported: as new filters.
	out := s.do("GET", "/filters:export", "")
	want(t, "export", out.status, 200)
	want(t, "export: Content-Type", out.header.Get("Content-Type"), "application/x-ndjson")
	want(t, "exported lines", strings.Count(out.body, "\n"), 3)
	want(t, "import of the export", s.imports(out.body).body, `{"imported":3}`+"\n")
	ofBob := s.do("GET", "/filters:export?subscriber_id=bob", "").body
	want(t, "bob's lines", strings.Count(ofBob, `"subscriber_id":"bob"`), 2)
	want(t, "lines of bob's export", strings.Count(ofBob, "\n"), 2)
	want(t, "export of nobody's", s.do("GET", "/filters:export?subscriber_id=nobody", "").body, "")
	want(t, "export with a limit", s.do("GET", "/filters:export?limit=1", "").status, 400)

	s.publisher.fail(errors.New("redis is away"))
	a = s.imports(adas)
	want(t, "without Redis", a.status, 202)
	if !strings.HasPrefix(a.body, `{"imported":1,"applied":false,"detail":"stored, but`) {
		t.Errorf("without Redis: %s", a.body)
	}
}

func TestImportRefuses(t *testing.T) {
	s := start(t, api.Config{MaxImportLines: 300, MaxBodyBytes: 1000}, &store.Memory{})
	wrong := strings.Replace(adas, `["purchase"]`, `"purchase"`, 1)
	const wantList = "want a list of strings, got \\\"purchase\\\""
	for _, tt := range []struct {
		name, body string
		status     int
		want       []string
	}{
		{"nothing", "", 422, []string{`"detail":"the body is empty; want one filter a line, as JSON"`}},
		{"empty lines", "\n\n", 422, []string{"invalid-import"}},
		{"two wrong lines", adas + "\n" + wrong + "\n\n{\n" + adas, 422, []string{
			`"detail":"of 5 lines, these are wrong"`, `{"line":2,"field":"/event_types","detail":"` + wantList + `"}`,
			`{"line":4,"field":"","detail":"malformed JSON at byte 2: unexpected end of JSON input"}`,
		}},
		{"not UTF-8", "{\"subscriber_id\":\"\xff\"}", 422, []string{`{"line":1,"field":"","detail":"malformed JSON at byte 19: not valid UTF-8"}`}},
		{"a long line among others", strings.Repeat(" ", 1001) + "\n" + strings.Repeat(" ", 99999) + "\n" + wrong, 422, []string{
			`{"line":1,"field":"","detail":"longer than a filter may be: at most 1000 bytes are allowed in a line"}`,
			`{"line":2,"field":"","detail":"longer than`, `{"line":3,"field":"/event_types"`,
		}},
		{"all lines wrong", strings.Repeat(wrong+"\n", 200), 422, []string{"these problems are in the first 100 lines; those after them were not looked at", `"line":100,`}},
		{"too many", strings.Repeat(adas+"\n", 301), 413, []string{"line 301 is one too many: at most 300 filters are allowed; nothing was imported"}},
	} {
		a := s.imports(tt.body)
		want(t, tt.name+": status", a.status, tt.status)
		for _, text := range tt.want {
			if !strings.Contains(a.body, text) {
				t.Errorf("%s: %s lacks %s", tt.name, a.body, text)
			}
		}
		if strings.Contains(a.body, `"line":101`) {
			t.Errorf("%s: more than 100 problems: %s", tt.name, a.body)
		}
	}
	want(t, "with a query", s.do("POST", "/filters:import?x=1", adas).status, 400)
	want(t, "as text", s.do("POST", "/filters:import", adas, "Content-Type", "text/csv").status, 415)
	want(t, "with a precondition", s.do("POST", "/filters:import", adas, "If-None-Match", "*").status, 400)
	want(t, "stored", s.do("GET", "/filters", "").body, `{"filters":[],"next_cursor":null}`+"\n")
	want(t, "published", s.publisher.bulk, 0)
	want(t, "as curl -d sends it", s.do("POST", "/filters:import", adas, "Content-Type", "application/x-www-form-urlencoded").status, 200)
}

// TestImportBreaksOff has clients go away in the middle of a body, told by its
// length or in chunks.
func TestImportBreaksOff(t *testing.T) {
	db := migratedStore(t)
	s := start(t, api.Config{}, db)
	line := adas + "\n" // in such a number that they don't come with the headers
	for _, head := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(line)*1000),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(line)*1000),
	} {
		before := s.do("GET", "/metrics", "").body
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /filters:import HTTP/1.1\r\nHost: localhost\r\n%s%s", head, strings.Repeat(line, 999))
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn)
		conn.Close()
		testenv.Eventually(t, 5*time.Second, func() error {
			if now := s.do("GET", "/metrics", "").body; requests(now, "400") == requests(before, "400") {
				return errors.New("the import is still under way")
			}
			return nil
		})
	}
	want(t, "stored", s.do("GET", "/filters", "").body, `{"filters":[],"next_cursor":null}`+"\n")
}

// requests returns the line of metrics that counts imports with a status.
func requests(metrics, status string) string {
	_, after, _ := strings.Cut(metrics, `requests_total{route="POST /filters:import",status="`+status+`"}`)
	line, _, _ := strings.Cut(after, "\n")
	return line
}

func migratedStore(t *testing.T) *store.Postgres {
	t.Helper()
	db, err := store.NewPostgres(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// manyFilters is a body of n lines, made as it is read.
func manyFilters(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, `{"subscriber_id":"user_%d","event_types":["purchase"],"where":{"sku":{"eq":"p-%d"}}}`+"\n", i/10, i)
			if b.Len() > 64<<10 {
				w.Write(b.Bytes())
				b.Reset()
			}
		}
		w.Write(b.Bytes())
		w.Close()
	}()
	return r
}

// Filter services get some time for much, and not too much.
func TestAhead(t *testing.T) {
	for n, want := range map[int64]time.Duration{
		0: 0, 9_999: 0, 10_000: 2080 * time.Millisecond, 500_000: 6 * time.Second, 1 << 40: 10 * time.Second,
	} {
		if got := api.Ahead(n); got != want {
			t.Errorf("%d filters: %v, want %v", n, got, want)
		}
	}
}

// TestImportOfMany copies 100,000 filters into PostgreSQL, and takes little memory.
func TestImportOfMany(t *testing.T) {
	db := migratedStore(t)
	s := start(t, api.Config{}, db)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() { peak <- peakHeap(stop) }()
	began := time.Now()
	resp, err := http.Post(s.url+"/filters:import", "application/x-ndjson", manyFilters(100_000))
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, resp)
	close(stop)
	want(t, "body", a.body, `{"imported":100000}`+"\n")
	used := <-peak
	t.Logf("100,000 filters in %v, heap at most %d MiB", time.Since(began).Round(time.Millisecond), used>>20)
	if used > 64<<20 {
		t.Errorf("the heap grew to %d MiB", used>>20)
	}
	var lines, bytes int64
	resp, err = http.Get(s.url + "/filters:export")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 64<<10)
	for err == nil {
		var n int
		n, err = resp.Body.Read(buf)
		lines, bytes = lines+int64(strings.Count(string(buf[:n]), "\n")), bytes+int64(n)
	}
	if err != io.EOF || lines != 100_000 {
		t.Errorf("exported %d lines, %d bytes, %v", lines, bytes, err)
	}
}

// peakHeap watches the heap until stop is closed.
func peakHeap(stop chan struct{}) (most uint64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		select {
		case <-stop:
			return most
		case <-tick.C:
		}
	}
}

// stuck is a Store whose Import waits for its context, or to be released.
type stuck struct {
	store.Memory
	entered chan struct{}
}

func (s *stuck) Import(ctx context.Context, _ iter.Seq2[filter.Spec, error]) (int64, error) {
	s.entered <- struct{}{}
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestImportsAreBounded(t *testing.T) {
	st := &stuck{entered: make(chan struct{})}
	s := start(t, api.Config{MaxImports: 1, ImportTimeout: time.Second}, st)
	slow := make(chan answer, 1)
	go func() { slow <- s.imports(adas) }()
	<-st.entered
	a := s.imports(adas)
	if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"urn:eventstream:problem:busy"`) {
		t.Errorf("a second import: %d %s", a.status, a.body)
	}
	wantUnavailable(t, "an import past its time", <-slow)
	want(t, "published", s.publisher.bulk, 0)
}

// TestImportOfTooManyBytes is refused before the body is read, or where it gets too
// long.
func TestImportOfTooManyBytes(t *testing.T) {
	s := start(t, api.Config{MaxImportBytes: 500}, &store.Memory{})
	body := strings.Repeat(adas+"\n", 12)
	a := s.imports(body)
	want(t, "status", a.status, 413)
	if !strings.Contains(a.body, "the body has 612 bytes; at most 500 are allowed") {
		t.Errorf("%s", a.body)
	}
	req, err := http.NewRequest("POST", s.url+"/filters:import", io.MultiReader(strings.NewReader(body))) // of unknown length
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 413 || !strings.Contains(string(text), "the body has more than 500 bytes; at most 500 are allowed") {
		t.Errorf("in chunks: %d %s", resp.StatusCode, text)
	}
	want(t, "filters", s.do("GET", "/filters:export", "").body, "")
	want(t, "of as many as are allowed", s.imports(body[:51*9]).status, 200)
}

// TestImportOverQuota says whose filters are too many.
func TestImportOverQuota(t *testing.T) {
	st := &store.Memory{}
	st.Limit(filter.Quota{Filters: 2})
	s := start(t, api.Config{}, st)
	s.create(adas)
	a := s.imports(adas + "\n" + adas + "\n" + strings.Replace(adas, "ada", "bob", 1))
	want(t, "status", a.status, 422)
	if !strings.Contains(a.body, "urn:eventstream:problem:quota-exceeded") || !strings.Contains(a.body, "quota of subscriber ada: filters: at most 2 are allowed, there are 1, and this is 2 more; nothing was stored") {
		t.Errorf("%s", a.body)
	}
	want(t, "filters", strings.Count(s.do("GET", "/filters:export", "").body, "\n"), 1)
}

// TestStopCutsImports: a client that sends nothing more does not hold up the end.
func TestStopCutsImports(t *testing.T) {
	s := start(t, api.Config{StopTimeout: 400 * time.Millisecond}, &store.Memory{})
	r, w := io.Pipe()
	status := make(chan int, 1)
	go func() {
		resp, err := http.Post(s.url+"/filters:import", "application/x-ndjson", r)
		if err != nil {
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	io.WriteString(w, adas+"\n")
	testenv.Eventually(t, 5*time.Second, func() error {
		if !strings.Contains(s.do("GET", "/metrics", "").body, "import_lines_total 1\n") {
			return errors.New("the line was not read yet")
		}
		return nil
	})
	s.stop()
	if err := <-s.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
	w.Close()
	want(t, "status", <-status, 503)
}

// failingLater is a Store that can be listed once.
type failingLater struct {
	store.Memory
	lists int
}

func (f *failingLater) List(ctx context.Context, subscriber string, after filter.ID, limit int) ([]filter.Filter, error) {
	if f.lists++; f.lists > 1 {
		return nil, filter.ErrUnavailable
	}
	return f.Memory.List(ctx, subscriber, after, limit)
}

// TestExportIsCut: a client can tell an export that failed half way from a whole one.
func TestExportIsCut(t *testing.T) {
	st := &failingLater{}
	s := start(t, api.Config{MaxStreams: 1}, st)
	want(t, "import", s.imports(strings.Repeat(adas+"\n", 1000)).status, 200)
	resp, err := http.Get(s.url + "/filters:export")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil {
		t.Errorf("an export that failed has a proper end after %d lines", bytes.Count(body, []byte("\n")))
	}
	wantUnavailable(t, "an export that fails at once", s.do("GET", "/filters:export", ""))
}
