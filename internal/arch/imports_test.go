package arch

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is our module's path.
var module = func() string {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		panic(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimPrefix(line, "module ")
}()

// Sets of packages, for the table.
var (
	words    = []string{"event", "filter"}
	doors    = []string{"auth", "limit", "origin"}         // who somebody is, how often they come, and of which page; for whoever lets them in
	edges    = []string{"topic", "lane", "wire", "replay"} // store is one too, but not for services
	services = []string{"producer", "filter/pipeline", "gateway", "api", "client"}
	support  = []string{"internal/ops", "internal/redact", "internal/run", "internal/scan", "internal/trouble", "internal/watchdog"}
)

// table says which of our packages each may import outside of its tests. An
// entry that ends in /... stands for a folder and all below it.
var table = map[string][]string{
	"event":       {"internal/binread"},
	"filter":      {"event", "internal/jsontext"}, // the language, which uses nothing of the index
	"filter/expr": words,

	"filter/index":      {"event", "filter", "internal/cow"},
	"filter/filtertest": {"filter"},

	"auth":   {"internal/jsontext", "internal/redact", "internal/trouble"},
	"limit":  nil,
	"origin": nil,

	"topic":        slices.Concat(words, []string{"internal/trouble"}),
	"topic/access": {"topic", "internal/ops", "internal/redact", "internal/trouble"},
	"topic/format": {"event", "topic", "internal/trouble"},

	"topic/format/registrytest": nil,

	"lane":  {"auth", "event", "filter", "internal/binread"},
	"wire":  words,
	"store": slices.Concat(words, doors),

	"replay": {"event", "filter", "lane", "wire", "internal/binread", "internal/redact", "internal/trouble"}, // an edge between services, in the lanes' words

	// Services never import each other, nor store: they declare the small
	// interface that they need of it, and cmd fills it in.
	"sniff": {"event", "filter", "topic"}, // looks at records, for people; no I/O

	"producer":          slices.Concat(words, edges, support),
	"filter/pipeline":   slices.Concat(words, edges, support, []string{"filter/index", "internal/cow"}),
	"gateway":           slices.Concat(words, edges, support, doors, []string{"replay", "gateway/acks", "gateway/admission", "gateway/delivery", "gateway/framing", "gateway/history", "gateway/position", "gateway/presence", "gateway/reader", "gateway/socket", "gateway/uptime"}),
	"gateway/acks":      {"event", "filter", "wire", "internal/ops", "internal/trouble", "gateway/admission", "gateway/position", "gateway/uptime"},
	"gateway/admission": {"auth", "event", "filter", "limit", "origin", "wire", "internal/ops", "internal/trouble", "gateway/framing", "gateway/uptime"},
	"gateway/delivery":  {"auth", "event", "lane", "wire", "internal/trouble", "internal/watchdog", "gateway/acks", "gateway/admission", "gateway/framing", "gateway/history", "gateway/position", "gateway/reader", "gateway/socket", "gateway/uptime"},
	"gateway/framing":   {"wire"},
	"gateway/history":   {"event", "lane", "wire", "replay", "internal/scan", "gateway/uptime"},
	"gateway/position":  nil,
	"gateway/presence":  {"event", "lane", "internal/trouble", "internal/watchdog", "gateway/position", "gateway/uptime"},
	"gateway/reader":    {"event", "lane", "internal/ops", "internal/trouble", "gateway/history", "gateway/position", "gateway/uptime"},
	"gateway/socket":    nil,
	"gateway/uptime":    nil,
	"api":               slices.Concat(words, edges, support, doors, []string{"filter/expr"}),
	"client":            slices.Concat(words, edges, support),

	// The checker knows the protocols, and nothing of the services that it checks.
	"cmd/eventstream-check":  {"internal/check", "internal/check/cluster", "internal/ops", "internal/redact"},
	"internal/check":         {"event", "filter", "topic", "wire", "internal/check/cluster", "internal/check/judge"},
	"internal/check/cluster": nil,
	"internal/check/judge":   {"event", "filter", "wire"},

	"gateway/framing/framingtest": nil,

	"internal/arch":              nil,
	"internal/binread":           nil,
	"internal/bubble":            nil,
	"internal/conformance":       nil, // what a client may meet; it knows none of ours
	"internal/conformance/serve": {"internal/conformance"},
	"internal/cow":               nil,
	"internal/defect":            nil,
	"internal/jsontext":          nil,
	"internal/ops":               {"internal/redact", "internal/trouble"},
	"internal/redact":            nil,
	"internal/run":               nil,
	"internal/scan":              nil,
	"internal/testenv":           {"internal/bubble", "internal/check/cluster"}, // nothing that tests are of, so that they can use it without a cycle
	"internal/trouble":           nil,
	"internal/watchdog":          nil,

	"":         {"cmd"}, // main.go
	"cmd":      slices.Concat(words, edges, services, support, doors, []string{"gateway/socket", "store", "sniff", "topic/access", "topic/format", "filter/expr"}),
	"perf/...": {"..."},
	"k6/...":   {"..."},
}

func TestImports(t *testing.T) {
	packages := list(t)
	if !slices.ContainsFunc(packages, func(p pkg) bool { return p.path == "filter" && len(p.imports) > 0 }) {
		t.Fatalf("filter is missing or imports nothing of ours: %v", packages)
	}
	for _, p := range packages {
		for _, problem := range check(p) {
			t.Error(problem)
		}
	}
}

// avoided are packages that the gateway is not to use, and why.
var avoided = map[string]string{
	"github.com/lesismal/nbio/nbhttp":           "its HTTP server gives one client's bytes to another",
	"github.com/lesismal/nbio/nbhttp/websocket": "it takes frames that are not masked, and needs nbhttp",
	"os/exec": "nbio's sockets are open in children",
}

// The gateway uses nbio's pollers and nothing else of it.
func TestGatewayKeepsAway(t *testing.T) {
	files, err := filepath.Glob("../../gateway/*.go")
	below, err2 := filepath.Glob("../../gateway/*/*.go")
	files = append(files, below...)
	if err := errors.Join(err, err2); err != nil || len(files) == 0 || len(below) == 0 {
		t.Fatalf("%d files, %d below, %v", len(files), len(below), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			if why, ok := avoided[path]; ok {
				t.Errorf("%s imports %s: %s", name, path, why)
			}
		}
	}
}

// TestProduct: no part of the program, and of what it uses, is there to break it or to
// test it.
func TestProduct(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", "../..").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, module+"/gateway") {
		t.Fatalf("gateway is missing among what the program is made of: %q", packages)
	}
	for _, pattern := range []string{module + "/internal/check/...", module + "/internal/testenv", module + "/perf/...", "testing",
		"github.com/Shopify/toxiproxy/...", "github.com/gorilla/mux/...", "github.com/rs/zerolog/..."} {
		for _, p := range packages {
			if covers(pattern, p) {
				t.Errorf("the program contains %s; want nothing of %s", p, pattern)
			}
		}
	}
}

// pkg is a package of ours; paths are relative to the module.
type pkg struct {
	path    string
	imports []string // ours only
}

// check returns what is wrong with p's imports.
func check(p pkg) []string {
	allowed, ok := row(p.path)
	if !ok {
		return []string{fmt.Sprintf("package %q is not in the table of internal/arch: add it, with what it may import", p.path)}
	}
	var problems []string
	for _, imported := range p.imports {
		if !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, imported) }) {
			problems = append(problems, fmt.Sprintf("package %q imports %q; allowed are %q", p.path, imported, allowed))
		}
	}
	return problems
}

// row returns the table's entry for a package.
func row(path string) ([]string, bool) {
	if allowed, ok := table[path]; ok {
		return allowed, true
	}
	for pattern, allowed := range table {
		if covers(pattern, path) {
			return allowed, true
		}
	}
	return nil, false
}

func covers(pattern, path string) bool {
	folder, ok := strings.CutSuffix(pattern, "...")
	if !ok {
		return pattern == path
	}
	return strings.HasPrefix(path+"/", folder)
}

// list returns all packages of the module, from the files themselves: with what
// other systems build, without waiting for all of it to compile, and so that
// go test knows when its cached result is out of date.
func list(t *testing.T) []pkg {
	t.Helper()
	const root = "../.."
	var packages []pkg
	err := filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if dir != root && skipped(dir) {
			return filepath.SkipDir
		}
		imports, found, err := importsOf(dir)
		if found {
			path, _ := filepath.Rel(root, dir)
			packages = append(packages, pkg{strings.TrimPrefix(filepath.ToSlash(path), "."), imports})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// skipped reports whether a folder is none of ours to go by: hidden, data of
// tests, or a module of its own.
func skipped(dir string) bool {
	name := filepath.Base(dir)
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || err == nil
}

// importsOf returns which of our packages the Go files in dir import, tests
// aside, and whether there are any files.
func importsOf(dir string) (imports []string, found bool, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, false, err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		found = true
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return nil, true, err
		}
		for _, spec := range f.Imports {
			importPath, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			if path, ok := ours(importPath); ok && !slices.Contains(imports, path) {
				imports = append(imports, path)
			}
		}
	}
	return imports, found, nil
}

// ours returns an import path relative to the module, if it is within it.
func ours(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// The rules themselves: what they are to refuse is refused.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		path, imported string
		ok             bool
	}{
		{"event", "filter", false},
		{"filter", "event", true},
		{"filter", "wire", false},
		{"filter/expr", "filter", true},
		{"filter", "filter/expr", false},
		{"filter", "filter/index", false},
		{"filter/index", "filter", true},
		{"filter/index", "filter/pipeline", false},
		{"filter/pipeline", "filter/index", true},
		{"gateway", "filter/index", false},
		{"api", "filter/expr", true},
		{"filter/pipeline", "filter/expr", false},
		{"lane", "filter", true},
		{"lane", "topic", false},
		{"lane", "internal/ops", false},
		{"store", "filter", true},
		{"store", "event", true},
		{"store", "wire", false},
		{"replay", "wire", true},
		{"replay", "topic", false},
		{"gateway", "wire", true},
		{"gateway", "internal/ops", true},
		{"gateway", "api", false},
		{"gateway", "filter/pipeline", false},
		{"api", "store", false},
		{"client", "wire", true},
		{"client", "gateway", false},
		{"client", "internal/testenv", false},
		{"filter/pipeline", "filter", true},
		{"filter/pipeline", "producer", false},
		{"internal/run", "event", false},
		{"internal/testenv", "lane", false},
		{"", "cmd", true},
		{"", "gateway", false},
		{"cmd", "store", true},
		{"cmd", "filter/pipeline", true},
		{"cmd", "internal/testenv", false},
		{"cmd", "internal/check", false},
		{"cmd/eventstream-check", "internal/check", true},
		{"cmd/eventstream-check", "cmd", false},
		{"perf", "internal/testenv", true},
		{"perf/soak", "gateway", true},
		{"performance", "event", false},
		{"newcomer", "event", false},
	} {
		problems := check(pkg{tt.path, []string{tt.imported}})
		if (len(problems) == 0) != tt.ok {
			t.Errorf("%q imports %q: got %q, want ok %t", tt.path, tt.imported, problems, tt.ok)
		}
	}
	if got := check(pkg{"newcomer", nil}); len(got) != 1 || !strings.Contains(got[0], "add it") {
		t.Errorf("a package that is not in the table: got %q, want to be told to add it", got)
	}
}

// Clients of Kafka are made in one place, so that none lacks TLS and SASL as configured.
func TestKafkaClients(t *testing.T) {
	var found []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "perf" || d.Name() == "testenv" || d.Name() == "check") { // they have servers of their own
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, call := range []string{"kgo.NewClient(", "kadm.NewOptClient("} {
			for range strings.Count(string(text), call) {
				found = append(found, filepath.ToSlash(path))
			}
		}
		return err
	})
	if err != nil || !slices.Equal(found, []string{"../../topic/topic.go"}) {
		t.Errorf("clients are made in %q, %v; want that only topic.Config.client does", found, err)
	}
}
