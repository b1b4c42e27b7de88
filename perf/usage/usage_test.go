//go:build linux

package usage

import (
	"os"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 10*time.Second; {
		now, err := Of(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now.CPU >= before.CPU+50*time.Millisecond {
			if now.RSS < 1<<20 || now.PeakRSS < now.RSS/2 {
				t.Errorf("memory = %+v, want more than a MiB", now)
			}
			return
		}
	}
	t.Error("10 s of work did not show as CPU time")
}

func TestMachine(t *testing.T) {
	busy, idle, err := Machine()
	if err != nil || busy <= 0 || idle <= 0 {
		t.Errorf("Machine() = %v, %v, %v; want times", busy, idle, err)
	}
}

func TestOfNone(t *testing.T) {
	if _, err := Of(-1); err == nil {
		t.Error("a process that is not there has no usage")
	}
}
