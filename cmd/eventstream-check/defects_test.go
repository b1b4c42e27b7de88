//go:build defects

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eventstream/internal/defect"
	"eventstream/internal/testenv"
)

// trial is a check that a defect has to fail, and that our program passes.
type trial struct {
	seed   int
	faults string
}

var trials = map[string]trial{
	defect.StartAtCommit:  {1, "redis-rollback,gateway-kill"},
	defect.IdleUnverified: {1, "redis-rollback,gateway-kill"},
	defect.ControlFirst:   {1, "none"},
	defect.NoDedupe:       {1, "none"},
	defect.SeenIgnored:    {1, "none"},
	defect.SeatReused:     {1, "none"},
	defect.RingAtOnce:     {1, "redis-rollback,gateway-kill"},
	defect.MoveFirst:      {1, "redis-slow,filter-kill,redis-cut"},
	defect.AnswerFirst:    {2, "redis-cut"},
}

// TestDefects shows that the checker catches each of the deliberate defects, and
// finds nothing in the same check without.
func TestDefects(t *testing.T) {
	dir := t.TempDir()
	overlay, err := defect.Overlay("../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "eventstream")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", exe, "../..").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	env := append(os.Environ(),
		"EVENTSTREAM_KAFKA="+strings.Join(testenv.Kafka(t), ","), "EVENTSTREAM_POSTGRES="+testenv.Postgres(t))
	sound := make(map[trial]bool)
	for _, name := range defect.Names() {
		tr, ok := trials[name]
		if !ok {
			t.Errorf("no trial for defect %s", name)
			continue
		}
		sound[tr] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Some need a coincidence: a partition that is idle just when Redis loses what it
			// held. The next seeds have others.
			for try, tr := 1, tr; ; try, tr.seed = try+1, tr.seed+1 {
				out, err := tr.run(t, exe, slices.Concat(env, []string{"EVENTSTREAM_DEFECT=" + name}), "5s")
				if err != nil {
					t.Logf("seed %d: %s", tr.seed, lastLine(out))
					return
				}
				t.Logf("seed %d: the check passed", tr.seed)
				if try == tries {
					t.Fatalf("the check passed with %d seeds; want it to fail:\n%s", tries, out)
				}
			}
		})
	}
	for tr := range sound {
		t.Run(fmt.Sprintf("none, as with seed %d and faults %s", tr.seed, tr.faults), func(t *testing.T) {
			t.Parallel()
			if out, err := tr.run(t, exe, env, "60s"); err != nil {
				t.Errorf("the check failed: %v; want it to pass:\n%s", err, out)
			}
		})
	}
}

// tries is in how many checks a defect has to show.
const tries = 3

// run runs the check and returns what it printed; the error tells that it failed.
func (tr trial) run(t *testing.T, exe string, env []string, settle string) (string, error) {
	c := exec.Command(testenv.Checker(t), "--eventstream", exe, "--seed", fmt.Sprint(tr.seed), "--faults", tr.faults, "--duration", "20s",
		"--settle", settle, "--clients", "150", "--dir", t.TempDir())
	c.Env = env
	out, err := c.Output()
	if c.ProcessState.ExitCode() == 1 && !strings.Contains(string(out), "events checked ") {
		t.Fatalf("the check did not come to a verdict: %v\n%s%s", err, out, err.(*exec.ExitError).Stderr)
	}
	return string(out), err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
