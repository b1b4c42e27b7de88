package cmd_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eventstream/internal/testenv"
)

// limitFiles limits the descriptors of a process to so many more than it has open, and
// returns how many it may have.
func (pr *process) limitFiles(more int) int {
	pr.t.Helper()
	used := make(map[int]bool)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pr.cmd.Process.Pid))
	if err != nil {
		pr.t.Fatal(err)
	}
	for _, f := range open {
		n, _ := strconv.Atoi(f.Name())
		used[n] = true
	}
	limit := 0
	for ; more > 0; limit++ {
		if !used[limit] {
			more--
		}
	}
	var few unix.Rlimit
	err = unix.Prlimit(pr.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &few)
	if few.Cur = uint64(limit); err == nil {
		err = unix.Prlimit(pr.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil)
	}
	if err != nil {
		pr.t.Fatal(err)
	}
	return int(few.Cur)
}

// answersOf connects clients that send a request each, and returns how often each status was
// answered, and what ends those that stay.
func answersOf(t *testing.T, addr string, n int, request func(i int) string) (answers map[int]int, leave func()) {
	t.Helper()
	answers = make(map[int]int)
	var stay []net.Conn
	for i := range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(nc, request(i))
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatalf("client %d was not answered: %v; so far %v", i, err, answers)
		}
		answers[resp.StatusCode]++
		if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Errorf("client %d: 503 without Retry-After", i)
		}
		stay = append(stay, nc)
		if resp.StatusCode != http.StatusSwitchingProtocols {
			nc.Close()
		}
	}
	leave = func() {
		for _, nc := range stay {
			nc.Close()
		}
	}
	t.Cleanup(leave)
	return answers, leave
}

func upgradeOf(i int) string {
	return fmt.Sprintf("GET /ws?subscriber_id=crowd-%d HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", i)
}

// Out of descriptors, every service answers 503 and is not ready, and goes on when it has
// some again. A gateway that may have few from its start says so.
func TestOutOfDescriptors(t *testing.T) {
	p := newPipeline(t)
	filterService := p.service("filter")
	api := p.service("api")
	gateway := p.service("gateway")

	for _, pr := range []*process{gateway, filterService, api} {
		t.Run(pr.name, func(t *testing.T) {
			limit := pr.limitFiles(20)
			var hold []net.Conn // they send nothing, and are closed for that after some seconds
			for range 40 {
				nc, err := net.Dial("tcp", pr.addr)
				if err != nil {
					t.Fatal(err)
				}
				hold = append(hold, nc)
			}
			testenv.Eventually(t, 30*time.Second, func() error {
				resp, err := http.Get("http://" + pr.addr + "/readyz")
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusServiceUnavailable {
					return fmt.Errorf("with %d descriptors: %s %s", limit, resp.Status, body)
				}
				return nil
			})
			pr.says("out of descriptors", 30*time.Second)
			pr.limitFiles(1000)
			for _, nc := range hold {
				nc.Close()
			}
			pr.ready()
			pr.says("there are descriptors again", 30*time.Second)
		})
	}

	t.Run("taken over", func(t *testing.T) {
		gateway.limitFiles(20)
		answers, leave := answersOf(t, gateway.addr, 60, upgradeOf)
		if answers[101] == 0 || answers[503] == 0 || answers[101]+answers[503] != 60 {
			t.Errorf("60 clients were answered %v, want 101 and 503", answers)
		}
		if err := get("http://" + gateway.addr + "/readyz"); err == nil {
			t.Error("ready without descriptors")
		}
		leave()
		gateway.limitFiles(1000)
		gateway.ready()
	})

	t.Run("from the start", func(t *testing.T) {
		for _, processes := range []string{"1", "2"} {
			pages := testenv.Addr(t)
			small := p.startLimited(160, "gateway", "--listen", testenv.Addr(t), "--processes", processes, "--pages", pages)
			small.addr = pages
			small.ready()
			small.says("--max-conns can't be kept", 30*time.Second)
			small.addr = small.args[2]
			answers, leave := answersOf(t, small.addr, 400, upgradeOf)
			if answers[101] == 0 || answers[503] == 0 || answers[101]+answers[503] != 400 {
				t.Errorf("%s processes: 400 clients were answered %v, want 101 and 503", processes, answers)
			}
			if err := get("http://" + pages + "/readyz"); err == nil {
				t.Errorf("%s processes: ready while full", processes)
			}
			leave()
			testenv.Eventually(t, 30*time.Second, func() error { return get("http://" + pages + "/readyz") })
			if code := small.stop(); code != 0 {
				t.Errorf("ended with %d", code)
			}
		}
	})
	for _, pr := range []*process{gateway, filterService, api} {
		select {
		case <-pr.done:
			t.Error(errors.New(pr.name + " ended"))
		default:
		}
	}
}
