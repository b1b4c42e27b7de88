package cmd_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// output runs the binary to its end.
func (p *pipeline) output(want int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	var out, errs syncBuffer
	c := exec.Command(testenv.Binary(p.t), args...)
	c.Env, c.Stdout, c.Stderr = p.env, &out, &errs
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != want {
		p.t.Fatalf("%v: %v, printed %q and %q, want exit code %d", args, err, out.String(), errs.String(), want)
	}
	return out.String(), errs.String()
}

// asks sends GET /filters with a key and returns an error unless the status is want.
func asks(addr, key string, want int) error {
	req, err := http.NewRequest("GET", "http://"+addr+"/filters", nil)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("status %d, want %d", resp.StatusCode, want)
	}
	return nil
}

// From an API that asks nobody to one that asks, and back to nobody being let in.
func TestAPIKeys(t *testing.T) {
	t.Parallel()
	p := newPipelineOn(t, "127.0.0.1:1") // no Redis is needed for this
	_, says := p.output(2, "api", "--listen", "0.0.0.0:0")
	if !strings.Contains(says, "eventstream apikey create") {
		t.Errorf("an API that strangers reach, without a key: %q", says)
	}
	addr := testenv.Addr(t)
	p.start("api", "--listen", addr)
	testenv.Eventually(t, 20*time.Second, func() error { return asks(addr, "", 200) })

	text, note := p.output(0, "apikey", "create", "--scope", "read", "--name", "a test")
	key := strings.TrimSpace(text)
	id := key[3:15]
	if !strings.Contains(note, "key "+id) || strings.Contains(note, key) {
		t.Errorf("create printed %q, and the key %q", note, key)
	}
	// That the next reading of the keys is enough for this is tested in package api.
	becomes := func(key string, want int) {
		t.Helper()
		testenv.Eventually(t, time.Minute, func() error { return asks(addr, key, want) })
	}
	becomes("", 401)
	becomes(key, 200)
	if list, _ := p.output(0, "apikey", "list"); !strings.Contains(list, id) || !strings.Contains(list, "a test") || strings.Contains(list, key) {
		t.Errorf("list printed %q", list)
	}
	p.output(0, "apikey", "revoke", id)
	becomes(key, 401)
	p.output(2, "apikey", "revoke", "000000000000")
	p.output(2, "apikey", "create", "--scope", "root", "--name", "x")
	p.output(2, "apikey", "create", "--scope", "read")
}
