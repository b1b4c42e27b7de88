package cmd_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"eventstream/internal/testenv"
)

// A service that logs JSON does so to its last line, and each says which service of which
// version it comes from.
func TestLogIsJSONToTheEnd(t *testing.T) {
	for _, args := range [][]string{
		{"gateway", "--listen", "127.0.0.1:99999"},
		{"gateway", "--max-conns", "0"},
		{"filter", "--listen", "127.0.0.1:99999"},
		{"api", "--listen", "127.0.0.1:99999"},
	} {
		var out strings.Builder
		cmd := exec.Command(testenv.Binary(t), append(args, "--log-format", "json", "--log-level", "debug")...)
		cmd.Stderr = &out
		if err := cmd.Run(); err == nil {
			t.Fatalf("%q: ended well", args)
		}
		var last struct{ Level, Msg, Err, Service, Version string }
		for line := range strings.Lines(out.String()) {
			last.Service, last.Version = "", ""
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Errorf("%q: %s: %v", args, line, err)
			}
			if last.Service != args[0] || last.Version == "" {
				t.Errorf("%q: no service and version in %s", args, line)
			}
		}
		if last.Level != "ERROR" || last.Err == "" {
			t.Errorf("%q: the last line does not say why it ended:\n%s", args, out.String())
		}
	}
}
