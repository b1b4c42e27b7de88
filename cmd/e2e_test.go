package cmd_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/client"
	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/testenv"
	"eventstream/topic"
)

// pipeline is our own binary running as separate processes on the real servers:
// a topic, a database and a Redis of its own.
type pipeline struct {
	t     *testing.T
	env   []string
	topic topic.Config
	redis *testenv.RedisServer
	api   string // host:port
}

func newPipeline(t *testing.T) *pipeline {
	redis := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	p := newPipelineOn(t, redis.Addr)
	p.redis = redis
	return p
}

// newPipelineOn is newPipeline with a Redis that is somebody else's business.
func newPipelineOn(t *testing.T, redis string) *pipeline {
	return newPipelineWith(t, redis, topic.Config{Brokers: testenv.Kafka(t), Topic: testenv.Topic(t)})
}

// newPipelineWith is newPipelineOn with a topic that is, too.
func newPipelineWith(t *testing.T, redis string, kafka topic.Config) *pipeline {
	p := &pipeline{t: t, topic: kafka}
	p.env = append(os.Environ(),
		"EVENTSTREAM_KAFKA="+strings.Join(p.topic.Brokers, ","),
		"EVENTSTREAM_TOPIC="+p.topic.Topic,
		"EVENTSTREAM_TOPIC_PARTITIONS=4",
		"EVENTSTREAM_GROUP="+p.topic.Topic,
		"EVENTSTREAM_REDIS="+redis,
		"EVENTSTREAM_POSTGRES="+testenv.Postgres(t),
		"EVENTSTREAM_LOG_LEVEL=debug",
		"EVENTSTREAM_LOG_FORMAT=text",
		"NO_COLOR=1",
	)
	return p
}

// process is one run of our binary.
type process struct {
	t    *testing.T
	name string
	addr string // of a service
	cmd  *exec.Cmd
	args []string
	env  []string

	files int // descriptors that it may have; 0 for as many as it wants

	out  syncBuffer
	done chan struct{}
	err  error
}

// start starts the binary. What it printed is shown if the test fails.
func (p *pipeline) start(args ...string) *process {
	p.t.Helper()
	return p.startLimited(0, args...)
}

// startLimited is start for a process that may have so many descriptors, 0 for as many
// as it wants.
func (p *pipeline) startLimited(files int, args ...string) *process {
	p.t.Helper()
	pr := &process{t: p.t, name: args[0], args: args, env: p.env, files: files}
	pr.run()
	p.t.Cleanup(func() {
		pr.kill()
		if p.t.Failed() {
			p.t.Logf("%s printed:\n%s", strings.Join(args, " "), pr.out.tail(60))
		}
	})
	return pr
}

// service starts one of the services and waits until it is ready.
func (p *pipeline) service(name string, flags ...string) *process {
	p.t.Helper()
	addr := testenv.Addr(p.t)
	pr := p.start(append([]string{name, "--listen", addr}, flags...)...)
	pr.addr = addr
	pr.ready()
	if name == "api" {
		p.api = addr
	}
	return pr
}

func (pr *process) run() {
	pr.t.Helper()
	pr.cmd = exec.Command(testenv.Binary(pr.t), pr.args...)
	if pr.files > 0 {
		limited := append([]string{"-c", `ulimit -n "$1" && shift && exec "$@"`, "sh", strconv.Itoa(pr.files)}, pr.cmd.Args...)
		pr.cmd = exec.Command("/bin/sh", limited...)
	}
	pr.cmd.Env, pr.cmd.Stdout, pr.cmd.Stderr = pr.env, &pr.out, &pr.out
	if err := pr.cmd.Start(); err != nil {
		pr.t.Fatal(err)
	}
	done := make(chan struct{})
	pr.done = done
	go func(cmd *exec.Cmd) {
		pr.err = cmd.Wait()
		close(done)
	}(pr.cmd)
}

// restart runs it again after it has ended.
func (pr *process) restart() {
	pr.t.Helper()
	pr.run()
	pr.ready()
}

func (pr *process) ready() {
	pr.t.Helper()
	testenv.Eventually(pr.t, 60*time.Second, func() error {
		select {
		case <-pr.done:
			return fmt.Errorf("%s ended: %v\n%s", pr.name, pr.err, pr.out.tail(20))
		default:
			return get("http://" + pr.addr + "/readyz")
		}
	})
}

// kill ends it as a crash would.
func (pr *process) kill() {
	pr.cmd.Process.Kill()
	<-pr.done
}

// stop ends it as an operator would, and returns its exit code.
func (pr *process) stop() int {
	pr.t.Helper()
	pr.cmd.Process.Signal(syscall.SIGTERM)
	return pr.wait(60 * time.Second)
}

// wait waits until it ends and returns its exit code.
func (pr *process) wait(limit time.Duration) int {
	pr.t.Helper()
	select {
	case <-pr.done:
	case <-time.After(limit):
		pr.t.Fatalf("%s has not ended after %s", pr.name, limit)
	}
	return pr.cmd.ProcessState.ExitCode()
}

func get(url string) error { return getBy(http.DefaultClient, url) }

func getBy(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return nil
}

// addFilter creates a filter over the API.
func (p *pipeline) addFilter(s filter.Spec) {
	p.t.Helper()
	s.ExprAny = nil // which the API makes of expr
	body, err := json.Marshal(s)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.Post("http://"+p.api+"/filters", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		p.t.Fatalf("POST /filters %s: %s: %s", body, resp.Status, answer)
	}
}

// listener is a client that keeps what it gets.
type listener struct {
	t          *testing.T
	subscriber string
	client     *client.Client
	cancel     context.CancelFunc
	done       chan struct{}
	hellos     atomic.Int64
	moved      bool // users' events went to other partitions meanwhile: their order is not kept

	mu     sync.Mutex
	events []client.Event
	gaps   []client.State
	before map[event.ID]bool // came before it was away
	last   map[int32]arrival // by partition
	pause  time.Duration     // the longest time between two events of a partition
}

// arrival is when an event came.
type arrival struct {
	offset int64
	at     time.Time
}

// listen connects a subscriber and waits for hello.
func (p *pipeline) listen(gateway *process, subscriber string) *listener {
	p.t.Helper()
	l := &listener{t: p.t, subscriber: subscriber, last: make(map[int32]arrival)}
	l.connect(gateway, "")
	return l
}

// connect connects with a cursor, "" for none, and waits for hello.
func (l *listener) connect(gateway *process, cursor string) {
	l.t.Helper()
	l.done = make(chan struct{})
	c, err := client.New(client.Config{
		URL: gateway.addr, SubscriberID: l.subscriber, Cursor: cursor, MaxBackoff: time.Second,
		OnState: func(s client.State) {
			switch s.Status {
			case client.Connected, client.Resumed:
				l.hellos.Add(1)
			case client.Gap:
				l.mu.Lock()
				l.gaps = append(l.gaps, s)
				l.mu.Unlock()
			}
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	l.client = c
	ctx, cancel := context.WithCancel(l.t.Context())
	l.cancel = cancel
	done := l.done
	go func() {
		defer close(done)
		if err := c.Run(ctx, l.got); err != nil {
			l.t.Errorf("listener %s: %v", l.subscriber, err)
		}
	}()
	l.t.Cleanup(func() { cancel(); <-done })
	select {
	case <-c.Ready():
	case <-time.After(20 * time.Second):
		l.t.Fatalf("%s: no hello after 20s", l.subscriber)
	}
}

// leave disconnects. What came before may come again after return.
func (l *listener) leave() {
	l.cancel()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = make(map[event.ID]bool)
	for _, e := range l.events {
		l.before[e.ID] = true
	}
}

// comeBack connects with the cursor that it had when it left.
func (l *listener) comeBack(gateway *process) {
	l.t.Helper()
	l.connect(gateway, l.client.Cursor())
}

func (l *listener) got(e client.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before[e.ID] {
		return nil
	}
	l.events = append(l.events, e)
	now := arrival{e.ID.Offset, time.Now()}
	if last, ok := l.last[e.ID.Partition]; ok {
		l.pause = max(l.pause, now.at.Sub(last.at))
	}
	l.last[e.ID.Partition] = now
	return nil
}

// longest returns the longest pause since it was last asked.
func (l *listener) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := l.pause
	for _, last := range l.last {
		pause = max(pause, time.Since(last.at))
	}
	l.pause = 0
	return pause
}

// names returns the event_id of each event, in order of arrival.
func (l *listener) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, len(l.events))
	for i, e := range l.events {
		var ev struct {
			ID string `json:"event_id"`
		}
		if err := json.Unmarshal(e.Data, &ev); err != nil {
			l.t.Errorf("event %s: %v", e.ID, err)
		}
		names[i] = ev.ID
	}
	return names
}

// wait waits until n events have come.
func (l *listener) wait(n int, limit time.Duration) {
	l.t.Helper()
	testenv.Eventually(l.t, limit, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.events) < n {
			return fmt.Errorf("%d events, want %d", len(l.events), n)
		}
		return nil
	})
}

// expect checks that exactly the wanted events came, each once, and in the given
// order per user.
func (l *listener) expect(name string, want []source) {
	l.t.Helper()
	l.mu.Lock()
	gaps := l.gaps
	l.mu.Unlock()
	if len(gaps) > 0 {
		l.t.Errorf("%s: was told of gaps: %v", name, gaps)
	}
	got := l.names()
	users := make(map[string]string, len(want))
	order := make(map[string][]string)
	for _, s := range want {
		users[s.id] = s.user
		order[s.user] = append(order[s.user], s.id)
	}
	seen := make(map[string]bool, len(got))
	var extra, twice, disorder int
	for _, id := range got {
		user, wanted := users[id]
		switch {
		case !wanted:
			extra++
			continue
		case seen[id]:
			twice++
			continue
		case order[user][0] != id:
			if !l.moved {
				disorder++
			}
		default:
			order[user] = order[user][1:]
		}
		seen[id] = true
	}
	missing := len(want) - len(seen)
	if missing+extra+twice+disorder > 0 {
		l.t.Errorf("%s: got %d events, want %d: %d missing, %d extra, %d twice, %d out of order",
			name, len(got), len(want), missing, extra, twice, disorder)
	}
}

// source is an event as it was produced.
type source struct {
	id, user string
	data     []byte
	decoded  map[string]any
}

// selected is the plain loop that the pipeline is compared with.
func selected(events []source, specs ...filter.Spec) []source {
	var out []source
	for _, s := range events {
		for i := range specs {
			if specs[i].Match(s.decoded) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// readSources reads an NDJSON file.
func readSources(t *testing.T, path string) []source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if filepath.Ext(path) == ".gz" {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var all []source
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		all = append(all, parseSource(t, bytes.Clone(lines.Bytes())))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func parseSource(t *testing.T, line []byte) source {
	t.Helper()
	ev, err := filter.DecodeEvent(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	id, _ := ev["event_id"].(string)
	user, _ := ev["user_id"].(string)
	return source{id: id, user: user, data: line, decoded: ev}
}

// produce writes events from this process and waits for their acknowledgement.
func (p *pipeline) producer() *topic.Producer {
	p.t.Helper()
	prod, err := topic.NewProducer(p.topic, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(prod.Close)
	return prod
}

// send produces one event and waits for its acknowledgement.
func (p *pipeline) send(prod *topic.Producer, s source) event.ID {
	p.t.Helper()
	acked := make(chan error, 1)
	var id event.ID
	prod.Produce(p.t.Context(), []byte(s.user), s.data, nil, func(r *kgo.Record, err error) {
		id = event.ID{Partition: r.Partition, Offset: r.Offset}
		acked <- err
	})
	if err := <-acked; err != nil {
		p.t.Fatalf("produce: %v", err)
	}
	return id
}

// syncBuffer is a buffer that a process writes while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// tail returns the last n lines.
func (s *syncBuffer) tail(n int) string {
	lines := strings.Split(strings.TrimRight(s.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// says waits until the process has printed the text.
func (pr *process) says(text string, limit time.Duration) {
	pr.t.Helper()
	testenv.Eventually(pr.t, limit, func() error {
		if !strings.Contains(pr.out.String(), text) {
			return errors.New("has not said: " + text)
		}
		return nil
	})
}
