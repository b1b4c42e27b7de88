package topic

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"eventstream/internal/testenv"
)

// lines is what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with returns the lines that contain a text.
func (l *lines) with(text string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

// A group whose offsets were reset while it was stopped says so, once, and goes on from
// where it was. A commit of a member is no reset, however old it is.
func TestReset(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		adm := admin(t, cfg)
		s := newSink()
		commit := func(offset int64, metadata string) {
			t.Helper()
			offsets := make(kadm.Offsets)
			offsets.Add(kadm.Offset{Topic: cfg.Topic, Partition: 0, At: offset, Metadata: metadata})
			if err := adm.CommitAllOffsets(t.Context(), cfg.Group, offsets); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, cfg, 0, 0, 20)
		for _, tt := range []struct {
			what   string
			commit func()
			want   string
		}{
			{"a new group", func() {}, ""},
			{"started again", func() {}, ""},
			{"an old commit of a member that died", func() { commit(5, "eventstream-1-2") }, ""},
			{"reset to where it is", func() { commit(20, "") }, ""},
			{"reset to the earliest", func() { commit(0, "") }, "partition=0 committed=0 pos=20"},
			{"started again, after it was told", func() {}, ""},
			{"reset to what lies ahead", func() { commit(40, "") }, "partition=0 committed=40 pos=20"},
		} {
			tt.commit()
			var log lines
			c, err := NewConsumer(cfg, nil, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, c, s.worker(tt.what))
			testenv.Eventually(t, patience, func() error {
				offsets, err := adm.FetchOffsets(t.Context(), cfg.Group)
				at, _ := offsets.Lookup(cfg.Topic, 0)
				if err != nil || at.At != 20 || at.Metadata == "" || at.Metadata == "eventstream-1-2" {
					return fmt.Errorf("%s: committed %+v, %v, want 20 by a member", tt.what, at, err)
				}
				return nil
			})
			stop()
			got := log.with("was reset by a tool")
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("%s: logged %q, want one with %q, or none", tt.what, got, tt.want)
			}
			if at := s.position(0); at != 20 {
				t.Errorf("%s: at %d, want 20", tt.what, at)
			}
		}
	})
}
