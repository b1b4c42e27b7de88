package uptime

import (
	"testing"
	"time"
)

// What others are told of a time is by the wall clock, to the second.
func TestUnix(t *testing.T) {
	for range 100 {
		up, wall := Seconds(), time.Now().Unix()
		got := Unix(up, time.Now())
		if got < wall-1 || got > time.Now().Unix() {
			t.Fatalf("Unix = %d, want %d", got, wall)
		}
	}
}

// 0 stands for never: no time is at it.
func TestNeverZero(t *testing.T) {
	if Seconds() < 1 || Now() < time.Second {
		t.Errorf("uptime is %v", Now())
	}
}
