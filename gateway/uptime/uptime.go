// Package uptime counts time from the start of the process.
//
// The wall clock can be stepped: by the first word of a time server, or when a virtual
// machine is resumed. So whether a client is alive, and how long ago something was, is
// told by uptime alone. Only the ends of tokens, and what others are told, go by the
// wall clock.
package uptime

import (
	"context"
	"time"
)

// birth is what uptime counts from: the last whole second but one before the process
// started, so that 0 is never now.
var birth = func() time.Time {
	now := time.Now()
	return now.Add(-time.Second - time.Duration(now.Nanosecond()))
}()

// Now returns the time since the process started. No step of the clock changes it.
func Now() time.Duration { return time.Since(birth) }

// Of returns the uptime at a time that time.Now has returned.
func Of(t time.Time) time.Duration { return t.Sub(birth) }

// Seconds is Now in whole seconds, as a connection keeps it.
func Seconds() int64 { return SecondsOf(time.Now()) }

// SecondsOf is Of in whole seconds.
func SecondsOf(t time.Time) int64 { return int64(Of(t) / time.Second) }

// Unix returns when Seconds had a value, in Unix seconds by the wall clock as it goes now.
func Unix(seconds int64, now time.Time) int64 {
	return now.Unix() - (SecondsOf(now) - seconds)
}

// Sleep waits for d, or until ctx ends. Then it returns its error.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
