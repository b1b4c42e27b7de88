package cmd_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"eventstream/internal/testenv"
)

// configFile writes a file for --config.
func configFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "eventstream.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bareEnv is our environment without settings.
func bareEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EVENTSTREAM_") })
}

// TestConfigFile: what is wrong is told with its place, and what is allowed.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	exe := testenv.Binary(t)
	for _, tt := range []struct{ text, says string }{
		{"lane-retention: 5m\nlane-retentoin: 5m", `2:1: unknown setting "lane-retentoin"; did you mean lane-retention?`},
		{"gateway:\n  max-con: 5", `2:3: unknown setting "max-con"`},
		{"Log-Level: info", `1:1: unknown setting "Log-Level"`},
		{"lane-retention: five", `1:17: lane-retention: want a duration such as 5m or 24h, got "five"`},
		{"max-conns: 1.5", `1:12: max-conns: want a whole number, got "1.5"`},
		{"compress: maybe", "1:11: compress: want true or false"},
		{"topic: a\ntopic: b", "2:1: topic stands here twice, also in line 1"},
		{"kafka: {a: b}", "1:8: kafka: want a text, a number, true, false, or a list of them"},
		{"kafka: [a, [b]]", "1:12: kafka: an element is a text without commas"},
		{"topic: &x [*x]", "topic: want a text"},
		{"topic: ${NO_SUCH_VARIABLE}", "1:8: the variable NO_SUCH_VARIABLE is not set"},
		{"topic: ${HOME", "1:8: ${ has no }"},
		{"postgres-file: /no/such/file", "/no/such/file"},
		{"postgres-file: /x\npostgres: y", "postgres-file and postgres: want one of them"},
		{"- a", "1:1: want names with values"},
		{"a: [", "did not find expected node content"},
		{"sources: []", "1:10: sources: want a list of one source"},
		{"sources: [{topik: x}]", `1:12: unknown member "topik" of a source; allowed are topic, format, envelope, map`},
		{"sources: [{format: xml}]", `1:20: format: "xml": allowed are json, avro, protobuf, json_schema`},
		{"sources: [{format: debezium}]", `1:20: format: "debezium": allowed are json, avro, protobuf, json_schema; debezium is an envelope: of any of these`},
		{"sources: [{envelope: cdc}]", `1:22: envelope: "cdc": allowed is debezium`},
		{"sources: [{map: {event_type: {header: a, path: b}}}]", "1:30: event_type: want one of path, header, key, topic, const, cloudevent"},
		{"sources: [{map: {amount: {path: a, as: float}}}]", `1:40: amount: as: "float": allowed are number, string, unix, unix_ms, unix_us`},
		{"sources: [{map: {amount: {pfad: a}}}]", `1:27: amount: unknown "pfad"`},
		{"sources: [{map: {amount: a..b}}]", `1:26: amount: "a..b": want a path such as metadata.type`},
	} {
		path := configFile(t, tt.text)
		c := exec.Command(exe, "config", "check", "--config", path)
		c.Env = bareEnv()
		out, err := c.CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), tt.says) {
			t.Errorf("%q: %v, printed %s; want exit code 2 and %q", tt.text, err, out, tt.says)
		}
	}
}

// TestConfigLayers: flags go before the environment, that before the section of the
// service, and that before the top.
func TestConfigLayers(t *testing.T) {
	t.Parallel()
	secret := configFile(t, "postgres://ada:secret@db/events\n")
	path := configFile(t, `
kafka: [a:1, "${BROKER}"]
topic: top
group: $${top}
lane-retention: 1m
append-interval: 2ms
postgres-file: `+secret+`
filter:
  lane-retention: 2m
  append-interval: 3ms
  leave-after: 20s
gateway:
  lane-retention: 9m
kafka-sasl: plain
kafka-sasl-user: ada
`)
	c := exec.Command(testenv.Binary(t), "config", "print", "filter", "--config="+path)
	c.Env = append(bareEnv(), "BROKER=b:2", "EVENTSTREAM_APPEND_INTERVAL=4ms", "EVENTSTREAM_KAFKA_SASL_USER=bob")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got map[string]any
	if err := yaml.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for name, want := range map[string]string{
		"kafka": `["a:1","b:2"]`, "topic": `"top"`, "group": `"${top}"`, "lane-retention": `"2m0s"`, "append-interval": `"4ms"`, "leave-after": `"20s"`,
		"kafka-sasl": `"plain"`, "kafka-sasl-user": `"bob"`,
	} {
		if text, _ := json.Marshal(got[name]); string(text) != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
	if strings.Contains(string(out), "secret") || !strings.Contains(string(out), "db/events") {
		t.Errorf("printed %s; want the address without its password", out)
	}
}

// TestConfigSchema: every setting that a service prints is in the schema.
func TestConfigSchema(t *testing.T) {
	t.Parallel()
	exe := testenv.Binary(t)
	out, err := exec.Command(exe, "config", "schema").Output()
	var schema struct{ Properties map[string]any }
	if err != nil || json.Unmarshal(out, &schema) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"api", "filter", "gateway", "producer"} {
		out, err := exec.Command(exe, "config", "print", name).Output()
		var all map[string]any
		if err != nil || yaml.Unmarshal(out, &all) != nil || len(all) < 5 {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		for setting := range all {
			if schema.Properties[setting] == nil {
				t.Errorf("%s is not in the schema", setting)
			}
		}
	}
}

// TestDocumentedFiles: the files in the docs are right, but for the secrets that they name.
func TestDocumentedFiles(t *testing.T) {
	t.Parallel()
	exe, n := testenv.Binary(t), 0
	for _, name := range []string{"configuration.md", "sources.md", "formats.md"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
			file, _, _ := strings.Cut(block, "```")
			file = strings.ReplaceAll(file, "/run/secrets/postgres", configFile(t, "postgres://db/events"))
			c := exec.Command(exe, "config", "check", "--config", configFile(t, file))
			c.Env = bareEnv()
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s of\n%s", name, err, out, file)
			}
			n++
		}
	}
	if n < 2 {
		t.Errorf("%d files in the docs, want 2 or more", n)
	}
}

// TestOptionsAreDocumented holds docs/options.md against the program.
func TestOptionsAreDocumented(t *testing.T) {
	t.Parallel()
	c := exec.Command(testenv.Binary(t), "config", "options")
	c.Env = []string{} // which would change defaults
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	documented, err := os.ReadFile("../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(documented) != string(out) {
		t.Error("docs/options.md is not what the program says; make it anew: env -i eventstream config options > docs/options.md")
	}
}
