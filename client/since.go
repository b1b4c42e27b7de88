package client

import (
	"fmt"
	"time"
)

// since is where a client without a cursor starts: at a time, or a duration before Run.
// A duration is sent as a duration, so that the gateway's clock decides.
type since struct {
	at  string        // as given
	ago time.Duration // zero if at is a time, or empty
	run time.Time     // when Run was called first
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

// begin records the first call of Run.
func (s *since) begin(now time.Time) {
	if s.run.IsZero() {
		s.run = now
	}
}

// text returns the value to send now. The time since Run is added to a duration, so
// that retries do not move the start.
func (s *since) text(now time.Time) string {
	if s.ago == 0 {
		return s.at
	}
	return (s.ago + now.Sub(s.run).Truncate(time.Millisecond)).String()
}
