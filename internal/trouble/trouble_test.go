package trouble

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"eventstream/internal/bubble"
)

// What is told of attempts that come at certain seconds, x for one that fails and o for
// one that works.
func TestTrouble(t *testing.T) {
	for _, tt := range []struct {
		name, attempts string
		every          time.Duration
		want           []string
	}{
		{"works", "oooo", time.Second, nil},
		{"fails once", "oxoo", time.Second, []string{`level=WARN msg=fails n=1 err=away`, `level=INFO msg=works after=1s failures=1`}},
		{"fails for long", strings.Repeat("x", 40) + "oo", time.Second, []string{
			`level=WARN msg=fails n=0 err=away`,
			`level=WARN msg=fails n=30 err=away for=30s left_out=29`,
			`level=INFO msg=works after=40s failures=40`,
		}},
		// What was not told to fail is not told to work again.
		{"by turns", strings.Repeat("xo", 14) + "o", time.Second, []string{
			`level=WARN msg=fails n=0 err=away`, `level=INFO msg=works after=1s failures=1`,
		}},
		{"by turns for long", strings.Repeat("xo", 16), time.Second, []string{
			`level=WARN msg=fails n=0 err=away`, `level=INFO msg=works after=1s failures=1`,
			`level=WARN msg=fails n=30 err=away for=0s left_out=14`, `level=INFO msg=works after=1s failures=1`,
		}},
		{"fails again, and stays so", "xo" + strings.Repeat("x", 40) + "o", time.Second, []string{
			`level=WARN msg=fails n=0 err=away`, `level=INFO msg=works after=1s failures=1`,
			`level=WARN msg=fails n=30 err=away for=28s left_out=28`, `level=INFO msg=works after=40s failures=40`,
		}},
		{"seldom", "xoxo", time.Minute, []string{
			`level=WARN msg=fails n=0 err=away`, `level=INFO msg=works after=1m0s failures=1`,
			`level=WARN msg=fails n=2 err=away`, `level=INFO msg=works after=1m0s failures=1`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var b bytes.Buffer
				tr := New(slog.New(slog.NewTextHandler(&b, nil)), "fails", "works")
				for i, attempt := range tt.attempts {
					var err error
					if attempt == 'x' {
						err = errors.New("away")
					}
					tr.Saw(err, "n", i)
					if failing := tr.Failing(); failing != (attempt == 'x') {
						t.Errorf("attempt %d: failing = %t", i, failing)
					}
					time.Sleep(tt.every)
				}
				got := strings.TrimSpace(regexp.MustCompile(`(?m)^time=\S+ `).ReplaceAllString(b.String(), ""))
				if want := strings.Join(tt.want, "\n"); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

// What works costs a load.
func TestWorkedAllocates(t *testing.T) {
	tr := New(slog.New(slog.DiscardHandler), "fails", "works")
	if n := testing.AllocsPerRun(100, func() { tr.Saw(nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
