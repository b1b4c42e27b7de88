package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"

	"eventstream/internal/check/cluster"
	"eventstream/topic"
)

// Baseline says how the predecessor's gateway reads.
type Baseline struct {
	Mode    string // "blocking", or "async" for redis.asyncio
	BlockMS int    // how long one read waits
}

// The predecessor, as perf/baseline/install.sh installs it.
const (
	baselineDir    = "perf/baseline"
	baselinePython = ".services/baseline/bin/python"
)

// Start starts the predecessor: its filter service and its gateway.
func (b Baseline) Start(ctx context.Context, cfg Config) (*Stack, error) {
	install := exec.CommandContext(ctx, filepath.Join(baselineDir, "install.sh")) // at once, if it was before
	install.Stderr = os.Stderr
	if err := install.Run(); err != nil {
		return nil, fmt.Errorf("install the baseline: %w", err)
	}
	python, err := filepath.Abs(baselinePython)
	if err != nil {
		return nil, err
	}
	c, err := start(ctx, cfg, 0, 0)
	if err != nil {
		return nil, err
	}
	r := &baseline{Baseline: b, python: python, dir: cfg.Dir, cluster: c}
	r.brokers, r.topic = c.Kafka()
	s := &Stack{Name: "baseline, " + b.Mode, close: r.close, addFilters: r.addFilters, Brokers: r.brokers, Topic: r.topic}
	if b.Mode == "blocking" {
		s.Name += fmt.Sprintf(" %d ms", b.BlockMS)
	}
	if err := r.start(ctx, s); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return s, nil
}

// baseline is the predecessor's processes.
type baseline struct {
	Baseline
	python, dir string
	cluster     *cluster.Cluster // for what it has around: Redis, database, topic
	brokers     []string
	topic       string
	running     []*exec.Cmd
}

func (r *baseline) start(ctx context.Context, s *Stack) error {
	if _, err := topic.Ensure(ctx, topic.Config{Brokers: r.brokers, Topic: r.topic, Partitions: 6}, slog.Default()); err != nil {
		return fmt.Errorf("make the topic: %w", err)
	}
	matcher, err := r.run("matcher", "matcher.py")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	gateway, err := r.run("gateway", "-m", "uvicorn", "gateway:app", "--port", port, "--workers", "1", "--log-level", "warning")
	if err != nil {
		return err
	}
	s.WS = "ws://127.0.0.1:" + port + "/ws"
	s.Parts = []Part{{Name: "gateway", PID: gateway}, {Name: "filter", PID: matcher}, {Name: "redis", PID: r.cluster.Redis()[0].PID()}}
	return until(ctx, func() error { return answers(ctx, "http://127.0.0.1:"+port+"/readyz") })
}

func (r *baseline) run(name string, args ...string) (pid int, err error) {
	log, err := os.Create(filepath.Join(r.dir, name+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	probe, err := filepath.Abs(filepath.Join(r.dir, "probe.jsonl"))
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(r.python, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = baselineDir, log, log
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1",
		"MODE="+r.Mode, "BLOCK_MS="+strconv.Itoa(r.BlockMS), "PROBE_FILE="+probe,
		"BASELINE_REDIS=redis://"+r.cluster.Redis()[0].Addr, "BASELINE_POSTGRES="+r.cluster.Database().URL(),
		"BASELINE_KAFKA="+strings.Join(r.brokers, ","), "BASELINE_TOPIC="+r.topic)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the baseline's %s: %w", name, err)
	}
	r.running = append(r.running, cmd)
	return cmd.Process.Pid, nil
}

// addFilters waits for the filter service, which makes the table, and then until
// it has read what was put there.
func (r *baseline) addFilters(ctx context.Context, filters []Filter) error {
	redis, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.cluster.Redis()[0].Addr}, DisableCache: true})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer redis.Close()
	if err := r.await(ctx, redis, 0); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, r.cluster.Database().URL())
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer db.Close(ctx)
	rows := make([][]any, len(filters))
	for i, f := range filters {
		rows[i] = []any{f.Subscriber, list(f.Type), list(f.User)}
	}
	if _, err := db.CopyFrom(ctx, pgx.Identifier{"baseline_filters"}, []string{"subscriber_id", "event_types", "user_ids"}, pgx.CopyFromRows(rows)); err != nil {
		return fmt.Errorf("store filters: %w", err)
	}
	return r.await(ctx, redis, len(filters))
}

// await waits until the filter service has read so many filters.
func (r *baseline) await(ctx context.Context, redis rueidis.Client, n int) error {
	return until(ctx, func() error {
		got, err := redis.Do(ctx, redis.B().Get().Key("baseline:filters").Build()).AsInt64()
		if err == nil && int(got) < n {
			err = fmt.Errorf("it has %d of %d filters", got, n)
		}
		return err
	})
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (r *baseline) close() error {
	for _, cmd := range r.running {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return r.cluster.Close()
}

// until waits, for a minute at most, until done returns nil.
func until(ctx context.Context, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not ready after a minute: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
