package cmd_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// TestBalancers restarts two gateways, one after the other, behind HAProxy and nginx
// with the configurations that we recommend, while events flow. Nobody may lose
// anything, or be told of a gap.
func TestBalancers(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	const most = 20 // connections from one address to a gateway
	var doors []*process
	f := p.flowThrough(1, append(specs[:11:11], everything("all")), func() (gateways, _ []*process) {
		for range 2 {
			gateways = append(gateways, p.service("gateway", "--drain", "1s", "--trusted-proxies", "127.0.0.1", "--max-conns-address", fmt.Sprint(most)))
		}
		doors = []*process{p.haproxy(gateways), p.nginx(gateways)}
		return gateways, doors
	})
	f.continues("the start")
	for _, g := range f.gateways {
		if code := g.stop(); code != 0 {
			t.Errorf("gateway ended with %d", code)
		}
		f.settles()
		g.restart()
	}
	f.finish()

	// Another address has its own limit, so it was passed on.
	for _, door := range doors {
		for range 2*most + 1 {
			door.answers(t, "127.0.0.9", http.StatusSwitchingProtocols, http.StatusTooManyRequests)
		}
		door.answers(t, "127.0.0.9", http.StatusTooManyRequests)
		door.answers(t, "127.0.0.1", http.StatusSwitchingProtocols)
	}
}

func (p *pipeline) haproxy(gateways []*process) *process {
	door, config := p.balancer("haproxy.cfg", gateways)
	testenv.Program(p.t, "haproxy", "-f", config)
	door.opens()
	return door
}

func (p *pipeline) nginx(gateways []*process) *process {
	door, config := p.balancer("nginx.conf", gateways)
	testenv.Program(p.t, "nginx", "-p", filepath.Dir(config), "-c", config, "-g", "daemon off; pid nginx.pid; error_log stderr;")
	door.opens()
	return door
}

// balancer writes one of our configurations with the addresses of this test.
func (p *pipeline) balancer(file string, gateways []*process) (door *process, config string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", file))
	if err != nil {
		p.t.Fatal(err)
	}
	door = &process{t: p.t, name: file, addr: testenv.Addr(p.t)}
	dir := p.t.TempDir()
	var temp strings.Builder // folders that a user can write
	for _, of := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s;\n", of, filepath.Join(dir, of))
	}
	changes := strings.NewReplacer("127.0.0.1:8003", gateways[0].addr, "127.0.0.1:8004", gateways[1].addr,
		"127.0.0.1:8080", door.addr, "http {", "http {\n"+temp.String())
	config = filepath.Join(dir, file)
	if err := os.WriteFile(config, []byte(changes.Replace(string(text))), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return door, config
}

// opens waits until somebody is behind the door.
func (pr *process) opens() {
	pr.t.Helper()
	testenv.Eventually(pr.t, 20*time.Second, func() error { return get("http://" + pr.addr + "/readyz") })
}

// answers does handshakes from an address until one is answered as wanted: a
// balancer may not have noticed yet that a gateway is back.
func (pr *process) answers(t *testing.T, from string, want ...int) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() error {
		if status := handshake(t, pr, from); !slices.Contains(want, status) {
			return fmt.Errorf("%s, from %s: %d, want %v", pr.name, from, status, want)
		}
		return nil
	})
}

// handshake opens a socket from an address, which stays open, and returns the answer's status.
func handshake(t *testing.T, door *process, from string) int {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr := &http.Transport{DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	req, err := http.NewRequest(http.MethodGet, "http://"+door.addr+"/ws?subscriber_id=all", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "c3dhcm1zd2FybXN3YXJtIQ==",
	} {
		req.Header.Set(name, value)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp.StatusCode
}
