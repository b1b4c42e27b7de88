package api_test

import (
	"strings"
	"testing"

	"eventstream/api"
	"eventstream/internal/testenv"
)

// TestGrowthOfImports: lines cost as much as they are long, right and wrong ones.
func TestGrowthOfImports(t *testing.T) {
	for name, line := range map[string]string{"right": adas + "\n", "empty": "\n", "wrong at the end": adas + "\n"} {
		testenv.Growth(t, name, 2000, func(n int) func() {
			body := strings.Repeat(line, n)
			if strings.HasPrefix(name, "wrong") {
				body += "{\n"
			}
			return func() { api.ReadImport(strings.NewReader(body)) }
		})
	}
	testenv.Growth(t, "a line without an end", 1<<20, func(n int) func() {
		body := strings.Repeat("x", n)
		return func() { api.ReadImport(strings.NewReader(body)) }
	})
}
