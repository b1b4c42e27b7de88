//go:build linux

package usage

import (
	"os"
	"os/exec"
	"slices"
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

func TestChildren(t *testing.T) {
	cmd := exec.Command("cat")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := Children(os.Getpid()); !slices.Contains(got, cmd.Process.Pid) {
		t.Errorf("Children = %v, want %d among them", got, cmd.Process.Pid)
	}
	cmd.Process.Kill()
	cmd.Wait()
}
