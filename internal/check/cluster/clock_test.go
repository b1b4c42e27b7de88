package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClockOfChild is no test: it is the process whose clock is stepped.
func TestClockOfChild(t *testing.T) {
	if os.Getenv("TELL_TIME") == "" {
		t.Skip("for TestStep")
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		now := time.Now()
		fmt.Printf("now %d %d\n", now.Unix(), now.Sub(begin).Round(time.Second)/time.Second)
	}
}

// TestStep: the wall clock of a process is stepped, both ways, and its monotonic one goes on.
func TestStep(t *testing.T) {
	if err := CanStep(); err != nil {
		t.Skip(err)
	}
	exe, err := exec.LookPath(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{
		Name: "child", exe: exe, args: []string{"-test.run=TestClockOfChild"},
		env: append(os.Environ(), "TELL_TIME=1"), log: filepath.Join(t.TempDir(), "log"),
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	begin := time.Now()
	for _, ahead := range []time.Duration{0, 2 * time.Minute, -3 * time.Hour, 0} {
		if err := p.Step(ahead); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := p.await(ctx, func() error {
			lines := strings.Split(strings.TrimSpace(string(tail(p.log))), "\n")
			var wall, up int64
			if n, _ := fmt.Sscanf(lines[len(lines)-1], "now %d %d", &wall, &up); n < 2 {
				return fmt.Errorf("it says %q", lines[len(lines)-1])
			}
			if off := time.Until(time.Unix(wall, 0)) - ahead; off < -2*time.Second || off > 2*time.Second {
				return fmt.Errorf("its clock is off by %v, want %v", off+ahead, ahead)
			}
			if most := time.Since(begin)/time.Second + 1; up < 0 || up > int64(most) {
				return fmt.Errorf("it runs for %d s, want %d at most", up, most)
			}
			return nil
		})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}
