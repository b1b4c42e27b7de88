package cmd_test

import (
	"syscall"
	"testing"
	"time"
)

// TestRebalance has filter processes join, leave, die, and hang for longer than
// the group waits for them, while events flow. Nothing may be lost, and it is
// shown for how long delivery pauses.
func TestRebalance(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := p.flow(1, append(specs[:4:4], everything("all")))
	f.continues("the start")
	f.paused("nothing happens")
	for range 2 {
		pr := p.service("filter")
		f.filters = append(f.filters, pr)
		pr.says("partitions assigned", 30*time.Second)
		f.settles()
		f.paused("a filter service joins")
	}

	if code := f.filters[2].stop(); code != 0 {
		t.Errorf("filter service exited with %d", code)
	}
	f.settles()
	f.paused("a filter service leaves")
	f.filters[1].kill()
	f.settles()
	f.paused("kill -9 of a filter service")
	f.filters[1].restart()
	f.settles()
	f.paused("it joins again")

	zombie := f.filters[0]
	zombie.signal(syscall.SIGSTOP)
	f.settles() // without it
	f.paused("a filter service hangs")
	zombie.signal(syscall.SIGCONT)
	zombie.says("partitions lost", 30*time.Second)
	f.settles()
	zombie.ready()
	f.paused("it goes on, and finds its partitions lost")
	f.finish()
}

// signal sends a signal to the process.
func (pr *process) signal(s syscall.Signal) {
	pr.t.Helper()
	if err := pr.cmd.Process.Signal(s); err != nil {
		pr.t.Fatal(err)
	}
}
