package lane

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedRights compares the commands that code sends to Redis with those that
// docs/redis.md grants.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	sent := map[string]bool{"ping": true, "eval": true, "evalsha": true} // by rueidis
	command := regexp.MustCompile(`\b(?:b|B\(\))\.([A-Z][a-z]+)[A-Z]?[a-z]*\(\)|redis\.call\('([A-Z]+)'`)
	for _, folder := range []string{".", "../limit"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no code in %s: %v", folder, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range command.FindAllStringSubmatch(string(text), -1) {
				sent[strings.ToLower(m[1]+m[2])] = true
			}
		}
	}
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(text), "ACL SETUSER")
	rule, _, _ = strings.Cut(rule, "```")
	granted := make(map[string]bool)
	for _, m := range regexp.MustCompile(`\+(\w+)`).FindAllStringSubmatch(rule, -1) {
		granted[m[1]] = true
	}
	if !maps.Equal(sent, granted) {
		t.Errorf("code sends %v\ndocs grant %v", slices.Sorted(maps.Keys(sent)), slices.Sorted(maps.Keys(granted)))
	}
}
