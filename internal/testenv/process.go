package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/check/cluster"
)

// process is a server's process. Its methods are for the one goroutine of its
// test; they fail the test when they can't do their work.
type process struct {
	t    testing.TB
	dir  string // of its data and its log
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// launch starts a program, whose output goes to the log.
func (p *process) launch(name string, args ...string) error {
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cluster.DieWithParent(cmd) // a test that times out runs no cleanup
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// Kill ends the server as a crash would.
func (p *process) Kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop lets the server shut down in order.
func (p *process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("%s does not stop", filepath.Base(p.cmd.Path))
	}
}

// Pause makes the server hang: connections stay open and nothing answers.
func (p *process) Pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (p *process) Resume() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

// end ends the server after its test.
func (p *process) end() {
	if p.running() {
		p.Kill()
	}
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal %v to %s: %v", sig, filepath.Base(p.cmd.Path), err)
	}
}

func (p *process) logPath() string { return filepath.Join(p.dir, "log") }

func (p *process) logged() []byte {
	text, _ := os.ReadFile(p.logPath())
	return text
}
