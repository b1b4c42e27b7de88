package gateway

import "time"

// The wall clock can be stepped: by the first word of a time server, or when a virtual
// machine is resumed. So whether somebody is alive, and how long ago something was,
// goes by uptime alone. By the wall clock go only the ends of tokens, and what others
// are told.

// birth is what uptime counts from: the last whole second but one before the process
// started, so that 0 is never now.
var birth = func() time.Time {
	now := time.Now()
	return now.Add(-time.Second - time.Duration(now.Nanosecond()))
}()

// uptime returns the time since the process started, which no step of the clock changes.
func uptime() time.Duration { return time.Since(birth) }

// uptimeSeconds is uptime as a connection keeps it.
func uptimeSeconds() int64 { return secondsAt(uptime()) }

func secondsAt(up time.Duration) int64 { return int64(up / time.Second) }

// unixOf returns when it was, by the wall clock as it goes now, that uptimeSeconds had
// a value.
func unixOf(up int64, now time.Time) int64 {
	return now.Unix() - (secondsAt(now.Sub(birth)) - up)
}
