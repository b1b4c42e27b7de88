package wire

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// TestAsyncAPI holds docs/reference/asyncapi.yaml against what is sent and understood: each
// message is one of it, and has no field that it does not name.
func TestAsyncAPI(t *testing.T) {
	schemas := asyncAPI(t)
	said := make(map[string]bool)
	for name, m := range messages {
		valid(t, schemas, m.want.Type, name, m.encoded)
		said[m.want.Type] = true
	}
	for _, kind := range []string{Hello, Events, Cursor, Gap, Error, Pong, Acked, Token, Close} {
		if !said[kind] {
			t.Errorf("no message of type %s is held against the document", kind)
		}
	}
	for name, text := range map[string]string{
		"ping": `{"type":"ping"}`, "ack": `{"type":"ack","cursor":"Y3Vyc29y","seen":"0-7,3-12"}`, "newToken": `{"type":"token","token":"t"}`,
	} {
		if _, err := ParseRequest([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		valid(t, schemas, name, name, []byte(text))
	}
}

// asyncAPI compiles the payloads of the document's messages.
func asyncAPI(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../docs/reference/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	closed(doc)
	asJSON, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("asyncapi.json", whole); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*jsonschema.Schema)
	for name := range doc["components"].(map[string]any)["messages"].(map[string]any) {
		if all[name], err = c.Compile("asyncapi.json#/components/messages/" + name + "/payload"); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// closed has objects with named properties allow no others.
func closed(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			closed(e)
		}
	case map[string]any:
		if v["type"] == "object" && v["properties"] != nil {
			v["additionalProperties"] = false
		}
		for _, e := range v {
			closed(e)
		}
	}
}

func valid(t *testing.T, schemas map[string]*jsonschema.Schema, kind, name string, text []byte) {
	t.Helper()
	if schemas[kind] == nil {
		t.Errorf("the document has no message %s", kind)
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if err := schemas[kind].Validate(v); err != nil {
		t.Errorf("%s: %s: %v", name, text, err)
	}
}
