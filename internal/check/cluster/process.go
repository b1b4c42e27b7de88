package cluster

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is one of our processes, over all its runs.
type Process struct {
	Name string
	Addr string // where it listens

	Admin string // where its profiles are; "" if nowhere
	pages string // where it tells whether it is ready; at Addr if ""

	as        *syscall.Credential // as ourselves if nil
	exe       string
	args, env []string
	log       string // file

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	runs int
}

// Start runs it. What it prints is added to its log.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.Name, err)
	}
	defer log.Close()
	p.runs++
	fmt.Fprintf(log, "---- run %d at %s\n", p.runs, time.Now().Format(time.TimeOnly))
	cmd := exec.Command(p.exe, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, log, log
	DieWithParent(cmd)
	if p.as != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = p.as
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// killLimit bounds how long the kernel may take to end a process.
const killLimit = 10 * time.Second

// Kill ends it as a crash would.
func (p *Process) Kill() {
	if p.signal(syscall.SIGKILL) == nil {
		select {
		case <-p.ended():
		case <-time.After(killLimit):
		}
	}
}

// Dump ends it after it has written its goroutines to its log.
func (p *Process) Dump() {
	if p.signal(syscall.SIGQUIT) == nil {
		select {
		case <-p.ended():
		case <-time.After(killLimit):
		}
	}
}

// stopLimit bounds how long a process takes to end when it is asked to.
const stopLimit = 50 * time.Second

// Stop ends it as an operator would.
func (p *Process) Stop() error {
	if err := p.terminate(); err != nil {
		return err
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s exited with %d when it was stopped; its log: %s", p.Name, code, p.log)
	}
	return nil
}

// terminate asks it to end, and waits until it has.
func (p *Process) terminate() error { return p.end(syscall.SIGTERM) }

func (p *Process) end(how syscall.Signal) error {
	if err := p.signal(how); err != nil {
		return err
	}
	select {
	case <-p.ended():
		return nil
	case <-time.After(stopLimit):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s", p.Name, stopLimit)
	}
}

// Pause makes it hang, until Resume.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %v to %s: %w", s, p.Name, err)
	}
	return nil
}

// PID returns the id of the process that was started last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

func (p *Process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Ready waits until it says that it is ready. One that ended by itself never is.
func (p *Process) Ready(ctx context.Context) error {
	return p.await(ctx, func() error { return p.state(ctx) })
}

// state returns what it says about itself, nil if that is that it is ready.
func (p *Process) state(ctx context.Context) error {
	return get(ctx, "http://"+cmp.Or(p.pages, p.Addr)+"/readyz")
}

// await asks until it gets an answer.
func (p *Process) await(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended():
			return fmt.Errorf("%s ended by itself; its log, %s, ends with:\n%s", p.Name, p.log, tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.Name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// tail returns the end of a file.
func tail(file string) []byte {
	text, _ := os.ReadFile(file)
	return text[max(0, len(text)-2000):]
}
