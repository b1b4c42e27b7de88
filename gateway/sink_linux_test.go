package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
)

// A sink is a process that holds clients and throws away what they get, so that
// what they cost is not taken for the gateway's.

const (
	sinkAddr  = "EVENTSTREAM_SINK_ADDR"
	sinkCount = "EVENTSTREAM_SINK_COUNT"
	sinkFirst = "EVENTSTREAM_SINK_FIRST"
	sinkTLS   = "EVENTSTREAM_SINK_TLS" // if set: connect with TLS, and read nothing
)

// sink is that process, seen from the benchmark.
type sink struct {
	cmd *exec.Cmd
}

// startSink connects clients first, first+1, …, count in number.
func startSink(tb testing.TB, addr string, first, count int, env ...string) *sink {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), sinkAddr+"="+addr, fmt.Sprintf("%s=%d", sinkCount, count), fmt.Sprintf("%s=%d", sinkFirst, first))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s := &sink{cmd}
	tb.Cleanup(s.end)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "connected\n" {
		tb.Fatalf("sink: %q, %v", line, err)
	}
	return s
}

func (s *sink) end() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// stall stops the process: its sockets take nothing any more.
func (s *sink) stall(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
}

// beSink makes this process one, if it was started as one.
func beSink() {
	if addr := os.Getenv(sinkAddr); addr != "" {
		fmt.Fprintln(os.Stderr, "sink:", sinkMain(addr))
		os.Exit(1)
	}
}

func sinkMain(addr string) error {
	count, _ := strconv.Atoi(os.Getenv(sinkCount))
	first, _ := strconv.Atoi(os.Getenv(sinkFirst))
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	var dials errgroup.Group
	dials.SetLimit(64)
	for i := range count {
		dials.Go(func() error { return sinkDial(epoll, addr, fmt.Sprint("c", first+i)) })
	}
	if err := dials.Wait(); err != nil {
		return err
	}
	fmt.Println("connected")
	return swallow(epoll)
}

func sinkDial(epoll int, addr, subscriber string) error {
	nc, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	if os.Getenv(sinkTLS) != "" {
		return sinkShake(tls.Client(nc, &tls.Config{InsecureSkipVerify: true}), epoll, subscriber)
	}
	defer nc.Close()
	return sinkShake(nc, epoll, subscriber)
}

var held sync.Map // connections that are not to be collected as garbage

func sinkShake(nc net.Conn, epoll int, subscriber string) error {
	if _, err := io.WriteString(nc, request(subscriber, "")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("handshake: %v, %w", resp, err)
	}
	if _, ok := nc.(*tls.Conn); ok {
		held.Store(nc, nil)
		return nil
	}
	f, err := nc.(*net.TCPConn).File() // a descriptor that outlives nc
	if err != nil {
		return err
	}
	fd, err := syscall.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		return err
	}
	syscall.SetNonblock(fd, true)
	return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

// swallow reads until the process is killed.
func swallow(epoll int) error {
	events, buf := make([]syscall.EpollEvent, 1024), make([]byte, 256<<10)
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if n, err := syscall.Read(int(e.Fd), buf); n == 0 && err == nil {
				syscall.Close(int(e.Fd))
			}
		}
	}
}
