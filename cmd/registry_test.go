package cmd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRegistryURLIsNoSecret: a URL with a password is refused, and not in the log before that.
func TestRegistryURLIsNoSecret(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{"http://registry:8081": true, "http://ada:secret@registry:8081": false} {
		var logs bytes.Buffer
		f := registryFlags{URLs: []string{url}, Token: "abc"}
		r, err := f.open(nil, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logs, nil)))
		if err == nil {
			r.Close()
		}
		if (err == nil) != want || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
		if strings.Contains(logs.String(), "plain text") != want || strings.Contains(logs.String(), "secret") {
			t.Errorf("%s: the log has %s", url, logs.String())
		}
	}
}
