package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"eventstream/gateway/socket"
	"eventstream/internal/ops"
	"eventstream/internal/run"
)

// With --processes a gateway is a parent that starts n children of the same program.
// The children share the port, and the kernel divides connections among their
// listeners. Each is an ordinary gateway that serves its pages on a Unix socket; the
// parent shows all of them.

// member is one of the children. It gets its number and socket from the environment.
type member struct {
	number int
	socket string // where it serves its pages
}

const memberEnv = "EVENTSTREAM_GATEWAY_MEMBER"

func (m member) env() string { return fmt.Sprintf("%s=%d:%s", memberEnv, m.number, m.socket) }

func thisMember() (m member, ok bool) {
	number, socket, _ := strings.Cut(os.Getenv(memberEnv), ":")
	n, err := strconv.Atoi(number)
	return member{n, socket}, err == nil
}

// begin makes this process the member: it adds its number to the log, serves profiles
// on its own port, and stops when its parent closes stdin.
func (m member) begin(ctx context.Context, a *app, l *listenFlags) (_ context.Context, pages net.Listener, err error) {
	a.log = a.log.With("process", m.number)
	if l.Admin, err = plusPort(l.Admin, m.number); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(m.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("pages of the member before: %w", err)
	}
	var lc net.ListenConfig
	if pages, err = lc.Listen(ctx, "unix", m.socket); err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	go func() { // runs until the process ends: a read of stdin can't be interrupted
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx, pages, nil
}

// listen opens the shared port when the gateway is ready, since the kernel gives
// clients to any listener.
func (m member) listen(l *listenFlags, log *slog.Logger) opener {
	return func(ctx context.Context, ready func(context.Context) error) (net.Listener, error) {
		for err := ready(ctx); err != nil && !ops.IsDegraded(err); err = ready(ctx) {
			if !pause(ctx, 20*time.Millisecond) {
				return nil, nil
			}
		}
		return l.open(ctx, socket.ListenShared, log)
	}
}

// plusPort adds n to the port of an address, which may be empty.
func plusPort(addr string, n int) (string, error) {
	if addr == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(addr)
	p, perr := strconv.Atoi(port)
	if err = cmp.Or(err, perr); err != nil || p < 1 || p+n > 65535 {
		return "", usageError{fmt.Errorf("--admin %s: with --processes want a port that others follow", addr)}
	}
	return net.JoinHostPort(host, strconv.Itoa(p+n)), nil
}

// maxProcesses is more than the cores of most machines.
const maxProcesses = 256

// checkProcesses rejects flags that children can't share.
func checkProcesses(n int, l *listenFlags) error {
	if n < 1 || n > maxProcesses {
		return usageError{fmt.Errorf("--processes %d: want 1 to %d", n, maxProcesses)}
	}
	if n == 1 {
		return nil
	}
	if runtime.GOOS != "linux" {
		return usageError{fmt.Errorf("--processes %d: only Linux divides a port's connections among processes; start several gateways behind a load balancer", n)}
	}
	if _, port, _ := net.SplitHostPort(l.Listen); port == "0" {
		return usageError{fmt.Errorf("--listen %s: with --processes want a certain port", l.Listen)}
	}
	_, err := plusPort(l.Admin, n-1)
	return err
}

// parent runs the children.
type parent struct {
	members []member
	restart *prometheus.CounterVec
	pages   []*http.Client
	began   atomic.Bool // all members have been ready
}

// runProcesses runs n gateways, and serves pages about all of them if pagesAddr is set.
func (a *app) runProcesses(ctx context.Context, n int, l *listenFlags, pagesAddr string, patience time.Duration) error {
	hosts, err := l.hosts()
	if err != nil {
		return err
	}
	ln, err := l.open(ctx, socket.Listen, a.log)
	if err != nil {
		return err // reported once, before any child starts
	}
	ln.Close()
	pages, err := l.openPages(ctx, pagesAddr, a.log)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "eventstream-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	reg := prometheus.NewRegistry()
	own := prometheus.WrapRegistererWith(prometheus.Labels{"process": "parent"}, reg)
	addProcessMetrics(own, a.version)
	p := newParent(n, dir, prefixed("gateway", reg))
	copies := run.Copies{
		N: n, Fatal: exitUsage, Log: a.log,
		Command: func(i int) *exec.Cmd {
			cmd := exec.Command("/proc/self/exe", os.Args[1:]...) // the running version, even if the file was replaced
			cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.members[i].env()), os.Stdout, os.Stderr
			return cmd
		},
		Ended: func(i int) { p.restart.WithLabelValues(strconv.Itoa(i)).Inc() },
		Check: p.alive,
	}
	g := run.Group{Log: a.log, Patience: patience}
	g.Add("processes", copies.Run)
	a.reloads.add(func() error { return copies.Signal(syscall.SIGHUP) })
	g.Add("files", func(ctx context.Context) error { return a.reloads.run(ctx, a.log) })
	if pages != nil {
		mux := http.NewServeMux()
		running := func() error { return nil } // stuck members are killed and restarted
		ops.Handle(mux, append(p.gatherers(), reg), running, ops.Check{Name: "processes", Do: p.ready, Local: true})
		servers := ops.NewServers(prefixed("gateway", own), a.log)
		g.Add("pages", func(ctx context.Context) error {
			return servers.Serve(ctx, "pages", pages, openTo(hosts, mux), ops.Limits{})
		})
	}
	a.log.Info("gateways share an address", "addr", l.Listen, "processes", n)
	a.warnIfOpen(l)
	return g.Run(ctx)
}

func newParent(n int, dir string, reg prometheus.Registerer) *parent {
	p := &parent{restart: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "process_restarts_total", Help: "Times that a gateway process ended by itself and was started again.",
	}, []string{"process"})}
	for i := range n {
		m := member{i, filepath.Join(dir, strconv.Itoa(i))}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", m.socket)
		}
		p.members = append(p.members, m)
		p.pages = append(p.pages, &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Second})
		p.restart.WithLabelValues(strconv.Itoa(i))
	}
	return p
}

// page gets a page of a member.
func (p *parent) page(ctx context.Context, i int, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	return p.pages[i].Do(req)
}

// ready returns why no clients should connect, or nil. At first it waits for all
// members, or the first ones would get all clients. Later one ready member is enough: a
// restarting member has not opened the port yet, so it gets no clients.
func (p *parent) ready(ctx context.Context) error {
	why := make(chan error, len(p.members))
	for i := range p.members {
		go func() { why <- p.memberReady(ctx, i) }()
	}
	ready, needed := 0, 1
	if !p.began.Load() {
		needed = len(p.members)
	}
	var last, degraded error
	for range p.members {
		switch err := <-why; {
		case err == nil:
			ready++
		case ops.IsDegraded(err):
			ready++
			degraded = err
		default:
			last = err
		}
	}
	if ready == len(p.members) {
		p.began.Store(true)
	}
	if ready >= needed {
		return degraded
	}
	return fmt.Errorf("%d of %d are ready, %d needed; one says: %w", ready, len(p.members), needed, last)
}

// alive returns why a member has to be killed, or nil.
func (p *parent) alive(i int) error { return p.ask(context.Background(), i, "/livez") }

func (p *parent) memberReady(ctx context.Context, i int) error { return p.ask(ctx, i, "/readyz") }

// ask returns the problem that a member reports, or nil.
func (p *parent) ask(ctx context.Context, i int, path string) error {
	resp, err := p.page(ctx, i, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	said := errors.New(strings.TrimSpace(string(body)))
	var page struct{ Status string }
	switch json.Unmarshal(body, &page); {
	case resp.StatusCode != http.StatusOK:
		return said
	case page.Status == "degraded":
		return ops.Degraded(said)
	}
	return nil
}

// gatherers gather the members' metrics, labelled with the process number.
func (p *parent) gatherers() (all prometheus.Gatherers) {
	for i := range p.members {
		all = append(all, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return p.gather(i), nil }))
	}
	return all
}

// gather returns a member's metrics, and whether it answered.
func (p *parent) gather(i int) []*dto.MetricFamily {
	families, err := p.scrape(i)
	up := 1.0
	if err != nil {
		families, up = nil, 0
	}
	kind := dto.MetricType_GAUGE
	name, help := "eventstream_gateway_process_up", "1 if the gateway process gives its metrics."
	families = append(families, &dto.MetricFamily{
		Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &up}}},
	})
	label, number := "process", strconv.Itoa(i)
	for _, f := range families {
		for _, m := range f.Metric {
			m.Label = append(m.Label, &dto.LabelPair{Name: &label, Value: &number})
			slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		}
	}
	return families
}

func (p *parent) scrape(i int) (families []*dto.MetricFamily, err error) {
	resp, err := p.page(context.Background(), i, "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)); ; {
		f := &dto.MetricFamily{}
		if err := d.Decode(f); errors.Is(err, io.EOF) {
			return families, nil
		} else if err != nil {
			return nil, err
		}
		families = append(families, f)
	}
}
