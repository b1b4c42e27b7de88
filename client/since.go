package client

import (
	"fmt"
	"time"
)

// since is where a client without a cursor begins: at a time, or so long before
// Run. It is told to the gateway as a time or as a duration, so that what
// counts is the gateway's clock.
type since struct {
	at  string        // as given
	ago time.Duration // zero if at is a time, or empty
	run time.Time     // when ago counts from
}

func parseSince(s string) (since, error) {
	if s == "" {
		return since{}, nil
	}
	if _, err := time.Parse(time.RFC3339, s); err == nil {
		return since{at: s}, nil
	}
	ago, err := time.ParseDuration(s)
	if err != nil || ago <= 0 {
		return since{}, fmt.Errorf("since %.40q: want a time such as 2026-01-02T03:04:05Z, or a duration such as 1h30m", s)
	}
	return since{at: s, ago: ago}, nil
}

// begin notes when Run was called first.
func (s *since) begin(now time.Time) {
	if s.run.IsZero() {
		s.run = now
	}
}

// text returns what to ask for now: who gets through only at the tenth attempt
// begins where the first one would have.
func (s *since) text(now time.Time) string {
	if s.ago == 0 {
		return s.at
	}
	return (s.ago + now.Sub(s.run).Truncate(time.Millisecond)).String()
}
