package topic

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"eventstream/event"
	"eventstream/internal/testenv"
)

func TestEnsure(t *testing.T) {
	onBoth(t, 5, func(t *testing.T, cfg Config) {
		want, err := Ensure(t.Context(), cfg, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		if want.Partitions != 5 || want.ID == (event.TopicID{}) {
			t.Errorf("Ensure: got %+v, want an ID and 5 partitions", want)
		}
		got := make(map[Info]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		cfg.Topic += "-again" // made by many at once
		t.Cleanup(func() {
			admin(t, cfg).DeleteTopics(context.Background(), cfg.Topic, cfg.DLQ())
		})
		for range 8 {
			wg.Go(func() {
				info, err := Ensure(t.Context(), cfg, testenv.Log(t))
				if err != nil {
					t.Errorf("Ensure: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[info]++
			})
		}
		wg.Wait()
		if len(got) != 1 || got[want] != 0 {
			t.Errorf("Ensure by 8 at once: got %v, want the same for all, and not %v", got, want)
		}
		adm := admin(t, cfg)
		md, err := adm.ListTopics(t.Context(), cfg.DLQ())
		if err != nil || !md.Has(cfg.DLQ()) {
			t.Errorf("topic %s: got %v, %v, want it to be there", cfg.DLQ(), md.Names(), err)
		}
		configs, err := adm.DescribeTopicConfigs(t.Context(), cfg.Topic)
		if err != nil {
			t.Fatal(err)
		}
		if got := config(configs, cfg.Topic, "retention.ms"); got != "86400000" {
			t.Errorf("retention.ms: got %q, want a day", got)
		}
	})
}

func config(configs kadm.ResourceConfigs, name, key string) string {
	for _, rc := range configs {
		for _, c := range rc.Configs {
			if rc.Name == name && c.Key == key {
				return c.MaybeValue()
			}
		}
	}
	return ""
}

func TestEnsureWaitsForABroker(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(testenv.Addr(t))
	cfg := Config{Brokers: []string{net.JoinHostPort("127.0.0.1", port)}, Partitions: 3}
	log := newLogBuffer()
	result := make(chan error, 1)
	go func() {
		_, err := Ensure(t.Context(), cfg, log.Logger)
		result <- err
	}()
	testenv.Eventually(t, patience, func() error {
		if !strings.Contains(log.String(), "can't set up the topic yet") {
			return errors.New("nothing logged")
		}
		return nil
	})
	n, _ := strconv.Atoi(port)
	b, err := StartBroker(EmbeddedConfig{Port: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := within(t, result, "answer"); err != nil {
		t.Errorf("Ensure: %v", err)
	}
}

func TestEnsureGivesUp(t *testing.T) {
	t.Parallel()
	t.Run("when its context ends", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := Ensure(ctx, Config{Brokers: []string{testenv.Addr(t)}}, testenv.Log(t))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
	t.Run("on what another try doesn't change", func(t *testing.T) {
		_, err := Ensure(t.Context(), Config{Brokers: testenv.Kafka(t), Topic: "no/such/name"}, testenv.Log(t))
		if !errors.Is(err, kerr.InvalidTopicException) {
			t.Errorf("got %v, want %v", err, kerr.InvalidTopicException)
		}
	})
	t.Run("on too many partitions", func(t *testing.T) {
		if _, err := Ensure(t.Context(), Config{Partitions: event.MaxPartitions + 1}, testenv.Log(t)); err == nil {
			t.Error("got no error")
		}
	})
}

func TestEmbeddedBroker(t *testing.T) {
	t.Parallel()
	t.Run("says that its port is in use", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = StartBroker(EmbeddedConfig{Port: l.Addr().(*net.TCPAddr).Port})
		if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("got %v, want that %s is in use", err, l.Addr())
		}
	})
	t.Run("keeps its records", func(t *testing.T) {
		cfg := EmbeddedConfig{Dir: t.TempDir(), Topic: "events", Partitions: 2}
		var ids []event.TopicID
		for i := range 2 {
			b, err := StartBroker(cfg)
			if err != nil {
				t.Fatal(err)
			}
			c := testConfig([]string{b.Addr()}, "events", 2)
			info, err := Ensure(t.Context(), c, testenv.Log(t))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, info.ID)
			fill(t, c, 1, 0, 10)
			ends, err := admin(t, c).ListEndOffsets(t.Context(), "events")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := ends.Lookup("events", 1); got.Offset != int64(10*(i+1)) {
				t.Errorf("start %d: got %d records, want %d", i, got.Offset, 10*(i+1))
			}
			b.Close()
		}
		if ids[0] != ids[1] {
			t.Errorf("topic ID: got %x after a restart, want %x", ids[1], ids[0])
		}
	})
	t.Run("sets its topic up for retention", func(t *testing.T) {
		b, err := StartBroker(EmbeddedConfig{Topic: "t", Retention: time.Hour, RetentionBytes: 123})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		configs, err := admin(t, Config{Brokers: []string{b.Addr()}}).DescribeTopicConfigs(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"retention.ms": "3600000", "retention.bytes": "123", "segment.bytes": "4194304"} {
			if got := config(configs, "t", key); got != want {
				t.Errorf("%s: got %q, want %q", key, got, want)
			}
		}
	})
}

// What is logged while a broker is away: that it is, and that it is back.
func TestReachability(t *testing.T) {
	log := newLogBuffer()
	r := &reachability{log: log.Logger}
	refused := errors.New("refused")
	now := time.Now()
	for _, tt := range []struct {
		after time.Duration
		err   error
		say   bool
	}{
		{0, nil, false},
		{1 * time.Second, refused, true},
		{2 * time.Second, refused, false},
		{60 * time.Second, refused, false},
		{62 * time.Second, refused, true},
		{63 * time.Second, nil, true},
		{64 * time.Second, nil, false},
		{65 * time.Second, refused, true},
	} {
		if _, say := r.note("k:9092", now.Add(tt.after), tt.err); say != tt.say {
			t.Errorf("after %v, %v: got %t, want %t", tt.after, tt.err, say, tt.say)
		}
		if _, say := r.note("other:9092", now.Add(tt.after), nil); say {
			t.Errorf("after %v: another broker, which is up all the time, is told of", tt.after)
		}
	}
}

func TestTheClientsOwnLogIsForDebugging(t *testing.T) {
	log := newLogBuffer()
	cl := clientLog(log.Logger)
	cl.Log(1, "an error")
	if got := log.String(); got != "" {
		t.Errorf("got %q, want nothing at level info", got)
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 3: time.Second, 6: time.Second, 1000: time.Second,
	} {
		if got := backoff(failures); got != want {
			t.Errorf("backoff(%d): got %v, want %v", failures, got, want)
		}
	}
}

// logBuffer keeps what is logged at level info and above.
type logBuffer struct {
	*slog.Logger
	mu  sync.Mutex
	buf bytes.Buffer
}

func newLogBuffer() *logBuffer {
	b := &logBuffer{}
	b.Logger = slog.New(slog.NewTextHandler(b, nil))
	return b
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
