package cmd_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestProcesses has three gateways share a port. One is killed, then all are
// restarted, while events flow. Nothing may be lost, and none stays behind.
func TestProcesses(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	pages := testenv.Addr(t)
	var gateway *process
	f := p.flowThrough(1, append(specs[:11:11], everything("all")), func() (gateways, doors []*process) {
		gateway = p.service("gateway", "--processes", "3", "--pages", pages, "--drain", "1s")
		gateways = []*process{gateway}
		testenv.Eventually(t, 30*time.Second, func() error { return samples(pages, "eventstream_gateway_process_up", 3, 3) })
		return gateways, gateways
	})
	testenv.Eventually(t, 30*time.Second, func() error { return samples(pages, "eventstream_gateway_connections", 3, float64(len(f.listeners))) })
	if err := get("http://" + gateway.addr + "/metrics"); err == nil {
		t.Error("there are metrics of some process on the shared port")
	}

	killed := gateway.child(1)
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.settles()
	testenv.Eventually(t, 30*time.Second, func() error {
		return errors.Join(get("http://"+pages+"/readyz"), samples(pages, "eventstream_gateway_process_up", 3, 3), samples(pages, "eventstream_gateway_process_restarts_total", 3, 1))
	})
	if again := gateway.child(1); again == killed {
		t.Errorf("process 1 has still pid %d", again)
	}
	lint(t, pages, "gateway")
	if code := gateway.stop(); code != 0 {
		t.Errorf("the gateways ended with %d", code)
	}
	gateway.restart()
	f.finish()

	gateway.kill()
	testenv.Eventually(t, 10*time.Second, func() error { // the children are gone, too
		ln, err := net.Listen("tcp", gateway.addr)
		if err == nil {
			ln.Close()
		}
		return err
	})
}

// child returns the pid of a child that was started last.
func (pr *process) child(number int) int {
	pr.t.Helper()
	found := regexp.MustCompile(fmt.Sprintf(`process started process=%d pid=(\d+)`, number)).FindAllStringSubmatch(pr.out.String(), -1)
	if len(found) == 0 {
		pr.t.Fatalf("process %d was not started", number)
	}
	pid, _ := strconv.Atoi(found[len(found)-1][1])
	return pid
}

// samples checks how many processes have a metric, and its sum.
func samples(pages, metric string, processes int, sum float64) error {
	resp, err := http.Get("http://" + pages + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("metrics: %s: %s: %w", resp.Status, body, err)
	}
	found := regexp.MustCompile(`(?m)^`+metric+`\{process="\d"\} (\S+)$`).FindAllSubmatch(body, -1)
	got := 0.0
	for _, m := range found {
		v, _ := strconv.ParseFloat(string(m[1]), 64)
		got += v
	}
	if len(found) != processes || got != sum {
		return fmt.Errorf("%s: %g of %d processes, want %g of %d", metric, got, len(found), sum, processes)
	}
	return nil
}
