package format

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"go.uber.org/goleak"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/topic"
	"eventstream/topic/format/registrytest"
)

const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var avroText = sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"r","fields":[{"name":"x","type":"int"}]}`}

func newRegistry(t *testing.T, cfg RegistryConfig) *Registry {
	t.Helper()
	cfg.patience = cmp.Or(cfg.patience, patience)
	r, err := NewRegistry(cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// read reads a value of avroText by the schema of an id.
func read(ctx context.Context, r *Registry, id int) (string, error) {
	out, err := New(Avro, r).Append(ctx, nil, registrytest.Framed(id, []byte{2}))
	return string(out), err
}

// settled reads until it is known whether that is possible.
func settled(t *testing.T, r *Registry, id int) (string, error) {
	t.Helper()
	var out string
	var err error
	testenv.Eventually(t, patience, func() error {
		if out, err = read(t.Context(), r, id); errors.Is(err, topic.ErrNotYet) {
			return err
		}
		return nil
	})
	return out, err
}

func TestRegistryAsksOnce(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(7, avroText)
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	for range 3 {
		if got, err := read(t.Context(), r, 7); err != nil || got != `{"x":1}` {
			t.Fatalf("got %s, %v", got, err)
		}
	}
	if asked := server.Asked(); !slices.Equal(asked, []string{"/schemas/ids/7"}) {
		t.Errorf("asked %s", asked)
	}
}

// TestUnknownForAWhile: an id that comes to the registry a moment after the record.
func TestUnknownForAWhile(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	r := newRegistry(t, RegistryConfig{URLs: []string{url}, Grace: time.Hour})
	if _, err := read(t.Context(), r, 7); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), "schema id 7: the Schema Registry does not have it; waiting") {
		t.Errorf("got %v, want ErrNotYet", err)
	}
	server.Add(7, avroText)
	if got, err := settled(t, r, 7); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestUnknownForGood: an id that never comes holds up its partition once. Others that are
// not known after it are not waited for.
func TestUnknownForGood(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	r := newRegistry(t, RegistryConfig{URLs: []string{url}, Grace: time.Nanosecond})
	if _, err := settled(t, r, 7); err == nil || err.Error() != "schema id 7: the Schema Registry does not have it" {
		t.Errorf("got %v", err)
	}
	r.cfg.Grace = time.Hour
	if _, err := read(t.Context(), r, 8); errors.Is(err, topic.ErrNotYet) || err == nil {
		t.Errorf("another one: got %v, want no wait", err)
	}
	r.mu.Lock()
	if wait := time.Until(r.missing[key{Avro, 8}].next); wait > retryMost {
		t.Errorf("it is asked for again after %s, want %s: it may be new", wait, retryMost)
	}
	r.mu.Unlock()
	// What is given up is asked for again, in vain. That keeps nobody else from being waited for.
	r.mu.Lock()
	r.missing[key{Avro, 7}].next, r.gaveUp = time.Time{}, time.Now().Add(-2*askUnknown)
	r.mu.Unlock()
	if _, err := read(t.Context(), r, 7); errors.Is(err, topic.ErrNotYet) || err == nil {
		t.Errorf("again: got %v, want no wait", err)
	}
	server.Add(9, sr.Schema{Type: sr.TypeAvro, Schema: `"int"`, References: []sr.SchemaReference{registrytest.Ref("a.B", 99)}})
	if _, err := read(t.Context(), r, 9); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), `schema id 9: version 1 of subject "subject-99", which it refers to: the Schema Registry does not have it`) {
		t.Errorf("one whose reference is missing: got %v, want ErrNotYet", err)
	}
}

// TestUnknownAfterOutage: while the registry can't be asked, the time that an id may be unknown
// does not pass.
func TestUnknownAfterOutage(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	r := newRegistry(t, RegistryConfig{URLs: []string{url}, Grace: time.Hour})
	asks := func(since time.Duration) error {
		r.mu.Lock()
		if m := r.missing[key{Avro, 7}]; m != nil {
			m.next, m.since = time.Time{}, m.since.Add(-since)
		}
		r.outage.next = time.Time{}
		r.mu.Unlock()
		_, err := read(t.Context(), r, 7)
		return err
	}
	if err := asks(0); !errors.Is(err, topic.ErrNotYet) {
		t.Errorf("got %v", err)
	}
	server.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if err := asks(2 * time.Hour); !errors.Is(err, topic.ErrNotYet) {
		t.Errorf("an outage: %v", err)
	}
	server.Answer(nil)
	if err := asks(0); !errors.Is(err, topic.ErrNotYet) {
		t.Errorf("after it: %v, want it to be waited for", err)
	}
	if err := asks(2 * time.Hour); err == nil || errors.Is(err, topic.ErrNotYet) {
		t.Errorf("long after it: %v, want it to be given up", err)
	}
}

// TestUnknownToOneURL: an id is unknown only if all say so.
func TestUnknownToOneURL(t *testing.T) {
	t.Parallel()
	one, url1 := registrytest.Start(t)
	two, url2 := registrytest.Start(t)
	one.Add(6, avroText)
	two.Add(7, avroText)
	r := newRegistry(t, RegistryConfig{URLs: []string{url1, url2}, Grace: time.Nanosecond})
	if got, err := read(t.Context(), r, 7); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v, want the second to be asked", got, err)
	}
	if kind, err := r.KindOf(t.Context(), 7); kind != Avro || err != nil {
		t.Errorf("got %s, %v, want the second to be asked", kind, err)
	}
	two.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	for range 3 {
		if _, err := read(t.Context(), r, 8); !errors.Is(err, topic.ErrNotYet) || !errors.Is(err, errDoubt) {
			t.Errorf("one can't be asked: got %v, want ErrNotYet", err)
		}
		r.mu.Lock()
		r.missing[key{Avro, 8}].next = time.Time{}
		r.mu.Unlock()
	}
	if got, err := read(t.Context(), r, 6); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v, want no wait for one that the first has", got, err)
	}
	two.Answer(nil)
	if _, err := settled(t, r, 8); !errors.Is(err, topic.ErrNoSchema) {
		t.Errorf("got %v, want it to be given up", err)
	}
}

// TestRegistryFails: what says nothing about a schema makes nothing a dead letter.
func TestRegistryFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		{"500", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(500)
			fmt.Fprint(w, `{"error_code":50001,"message":"Error in the backend data store"}`)
			return true
		}, "answers 500: Error in the backend data store"},
		{"refused", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(401)
			return true
		}, "answers 401"},
		{"another server", func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		}, "is its URL right?"},
		{"no JSON", func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, "<html>")
			return true
		}, "unable to decode"},
		{"a redirect to another server", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://127.0.0.2/", http.StatusFound)
			return true
		}, "answers 302"},
		{"an answer without a schema", func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, "{}")
			return true
		}, "it answers without a schema"},
		{"a failure without end", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			endless(w)
			return true
		}, errLong.Error()},
		{"no answer", func(w http.ResponseWriter, r *http.Request) bool {
			panic(http.ErrAbortHandler)
		}, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, url := registrytest.Start(t)
			server.Add(7, avroText)
			server.Answer(tt.answer)
			r := newRegistry(t, RegistryConfig{URLs: []string{url}, Grace: time.Nanosecond})
			if _, err := read(t.Context(), r, 7); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrNotYet with %q", err, tt.want)
			}
			before := len(server.Asked())
			if _, err := read(t.Context(), r, 8); !errors.Is(err, topic.ErrNotYet) || time.Since(r.outage.since) < retryFirst && len(server.Asked()) > before {
				t.Errorf("another id: got %v, asked %s; want no question at once", err, server.Asked())
			}
			server.Answer(nil)
			if got, err := settled(t, r, 7); err != nil || got != `{"x":1}` {
				t.Errorf("got %s, %v after it works again", got, err)
			}
		})
	}
}

// endless answers with more than is read.
func endless(w http.ResponseWriter) {
	text := []byte(strings.Repeat(" ", 1<<20))
	for range 9 {
		if _, err := w.Write(text); err != nil {
			return
		}
	}
}

// TestReferenceWithoutSchema: also that says nothing about the schema.
func TestReferenceWithoutSchema(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(6, sr.Schema{Type: sr.TypeAvro, Schema: `"r"`, References: []sr.SchemaReference{registrytest.Ref("r", 7)}})
	server.Add(7, avroText)
	server.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/subjects/") {
			return false
		}
		fmt.Fprint(w, "{}")
		return true
	})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	if _, err := read(t.Context(), r, 6); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), "it answers without a schema") {
		t.Errorf("got %v, want ErrNotYet", err)
	}
	server.Answer(nil)
	if got, err := settled(t, r, 6); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestRegistrySlow: who waits for an answer waits for a while only, and the answer is not lost.
func TestRegistrySlow(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(7, avroText)
	open := make(chan struct{})
	server.Answer(func(http.ResponseWriter, *http.Request) bool {
		<-open
		return false
	})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}, patience: time.Millisecond})
	if _, err := read(t.Context(), r, 7); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), "has not answered yet") {
		t.Errorf("got %v, want ErrNotYet", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.cfg.patience = patience
	if _, err := read(ctx, r, 7); !errors.Is(err, topic.ErrNotYet) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrNotYet as the context ended", err)
	}
	close(open)
	if got, err := settled(t, r, 7); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v", got, err)
	}
	if asked := server.Asked(); len(asked) != 1 {
		t.Errorf("asked %s, want one question for all", asked)
	}
}

func TestRegistryURLs(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(nil)
	dead.Close()
	server, url := registrytest.Start(t)
	server.Add(7, avroText)
	r := newRegistry(t, RegistryConfig{URLs: []string{dead.URL, url + "/"}})
	if got, err := read(t.Context(), r, 7); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v, want the second to be asked", got, err)
	}
	if r.first.Load() != 1 {
		t.Error("the one that answered is not asked first")
	}
	for _, bad := range []string{"", "registry:8081", "ftp://x", "http://u:p@x", "http://x?y"} {
		if _, err := NewRegistry(RegistryConfig{URLs: []string{bad}}, nil, slog.Default()); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRegistryProof: who we are is asked for anew with each request.
func TestRegistryProof(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(7, avroText)
	server.Add(8, avroText)
	var got []string
	server.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		got = append(got, user+":"+password+" "+r.Header.Get("Authorization"))
		return false
	})
	password, token := "right", ""
	r := newRegistry(t, RegistryConfig{URLs: []string{url}, User: "ada", Proof: func() (string, string, error) { return password, token, nil }})
	if _, err := read(t.Context(), r, 7); err != nil {
		t.Error(err)
	}
	password, token = "", "abc"
	if _, err := read(t.Context(), r, 8); err != nil {
		t.Error(err)
	}
	if len(got) != 2 || !strings.HasPrefix(got[0], "ada:right ") || got[1] != ": Bearer abc" {
		t.Errorf("got %q", got)
	}
}

func TestRegistryTLS(t *testing.T) {
	t.Parallel()
	server := registrytest.New()
	server.Add(7, avroText)
	web := httptest.NewUnstartedServer(server)
	web.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	web.StartTLS()
	defer web.Close()
	r := newRegistry(t, RegistryConfig{URLs: []string{web.URL}})
	if _, err := read(t.Context(), r, 7); !errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want one that says that we do not trust it", err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	r = newRegistry(t, RegistryConfig{URLs: []string{web.URL}, TLS: func() *tls.Config {
		return &tls.Config{RootCAs: trusted, Certificates: web.TLS.Certificates}
	}})
	if got, err := read(t.Context(), r, 7); err != nil || got != `{"x":1}` {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestSchemasRefused: what is wrong with a schema is the same tomorrow.
func TestSchemasRefused(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(1, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; message M {}`})
	server.Add(2, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"nothing"}`})
	server.Add(4, sr.Schema{Type: sr.TypeAvro, Schema: `"int"`, References: []sr.SchemaReference{registrytest.Ref("a.B", 5)}})
	server.Add(5, sr.Schema{Type: sr.TypeAvro, Schema: `"` + strings.Repeat("x", maxText) + `"`})
	server.Add(6, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"Outer","fields":[{"name":"i","type":"r"},{"name":"j","type":"r"}]}`,
		References: []sr.SchemaReference{registrytest.Ref("r", 7), registrytest.Ref("r", 7)}})
	server.Add(7, avroText)
	server.Delete(7)
	server.Add(10, sr.Schema{Type: sr.TypeAvro, Schema: `"int"`, References: []sr.SchemaReference{registrytest.Ref("a.B", 8)}})
	server.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/schemas/ids/8", "/subjects/subject-8/versions/1":
			endless(w)
		case "/schemas/ids/9":
			fmt.Fprint(w, `{"schemaType":"THRIFT","schema":"struct S {}"}`)
		default:
			return false
		}
		return true
	})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	for id, want := range map[int]string{
		1:  "schema id 1 is of type PROTOBUF, but the source's format is avro",
		2:  "schema id 2: avro: unknown type",
		4:  "more than 4194304 bytes",
		8:  errLong.Error(),
		9:  "schema id 9: it is of a type that is none of AVRO, PROTOBUF and JSON",
		10: errLong.Error(),
	} {
		if _, err := read(t.Context(), r, id); err == nil || errors.Is(err, topic.ErrNotYet) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want %q", id, err, want)
		}
	}
	if got, err := New(Avro, r).Append(t.Context(), nil, registrytest.Framed(6, []byte{2, 4})); err != nil || string(got) != `{"i":{"x":1},"j":{"x":2}}` {
		t.Errorf("with a reference whose subject was deleted: %s, %v", got, err)
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(1, avroText)
	server.Add(2, sr.Schema{Type: sr.TypeProtobuf})
	server.Add(3, sr.Schema{Type: sr.TypeJSON})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	for id, want := range []Kind{"", Avro, Protobuf, JSONSchema} {
		if got, err := r.KindOf(t.Context(), uint32(id)); got != want || (err == nil) != (want != "") {
			t.Errorf("%d: got %q, %v, want %q", id, got, err, want)
		}
	}
}

// TestRegistryProtobuf: a schema that imports others, by their names.
func TestRegistryProtobuf(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	server.Add(1, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; package o; message L { int64 n = 1; }`})
	server.Add(2, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; import "a/l.proto"; message K { repeated o.L all = 1; }`,
		References: []sr.SchemaReference{registrytest.Ref("a/l.proto", 1)}})
	server.Add(3, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto3"; import "a/l.proto"; import "b/k.proto"; message M { K k = 1; o.L l = 2; }`,
		References: []sr.SchemaReference{registrytest.Ref("b/k.proto", 2), registrytest.Ref("a/l.proto", 1)}})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	got, err := New(Protobuf, r).Append(t.Context(), nil, registrytest.Framed(3, []byte("\x00\x0a\x04\x0a\x02\x08\x05\x12\x00")))
	if want := `{"k":{"all":[{"n":5}]},"l":{"n":0}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestSchemasAreBounded: those that were not used for long go.
func TestSchemasAreBounded(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	r.mu.Lock()
	for id := range uint32(maxSchemas) {
		r.keepLocked(key{Avro, id}, new(entry))
	}
	r.mu.Unlock()
	server.Add(5000, avroText)
	if _, err := r.find(t.Context(), Avro, 0); err != nil { // the oldest, and used now
		t.Error(err)
	}
	if _, err := read(t.Context(), r, 5000); err != nil {
		t.Error(err)
	}
	known := *r.known.Load()
	if len(known) != maxSchemas || known[key{Avro, 0}] == nil || known[key{Avro, 1}] != nil || known[key{Avro, 5000}] == nil {
		t.Errorf("%d are kept; want the one that was used least lately to go", len(known))
	}
}

func TestUnframed(t *testing.T) {
	t.Parallel()
	f := New(Avro, nil)
	for value, want := range map[string]string{
		"":                             "it is empty",
		"\x00\x00":                     "it ends before the schema id",
		`{"a":1}`:                      "it looks like JSON",
		"\x01":                         "its first byte is not 0",
		"\x00\xff\xff\xff\xff\x00\x00": "schema id 4294967295: the largest is 2147483647",
	} {
		if _, err := f.Append(t.Context(), nil, []byte(value)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", value, err, want)
		}
	}
}

// TestJSONSchema: the frame is taken off, and nobody is asked.
func TestJSONSchema(t *testing.T) {
	t.Parallel()
	got, err := New(JSONSchema, nil).Append(t.Context(), []byte("x"), registrytest.Framed(7, []byte(`{"a":1}`)))
	if err != nil || string(got) != `x{"a":1}` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := New(JSONSchema, nil).Append(t.Context(), nil, registrytest.Framed(7, make([]byte, 60<<20))); !errors.Is(err, event.ErrTooLarge) {
		t.Errorf("60 MB: %v", err)
	}
}

// TestDebeziumAvro: changes of rows as Debezium writes them by Avro's converter.
func TestDebeziumAvro(t *testing.T) {
	t.Parallel()
	server, url := registrytest.Start(t)
	text := `{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[
		{"name":"before","type":["null",{"type":"record","name":"Value","fields":[
			{"name":"id","type":{"type":"int","connect.default":0},"default":0},
			{"name":"total","type":["null",{"type":"bytes","scale":2,"precision":10,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"10"},
				"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null},
			{"name":"made","type":{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}}],
			"connect.name":"shop.public.orders.Value"}],"default":null},
		{"name":"after","type":["null","Value"],"default":null},
		{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[
			{"name":"table","type":"string"},{"name":"ts_ms","type":"long"},{"name":"snapshot","type":["string","null"],"default":"false"}],
			"connect.name":"io.debezium.connector.postgresql.Source"}},
		{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null}],
		"connect.version":1,"connect.name":"shop.public.orders.Envelope"}`
	server.Add(7, sr.Schema{Type: sr.TypeAvro, Schema: text})
	r := newRegistry(t, RegistryConfig{URLs: []string{url}})
	s, err := topic.NewSource([]topic.Field{{Name: "amount", Place: topic.Place{Path: "after.total"}}}, topic.Debezium)
	if err != nil {
		t.Fatal(err)
	}
	s = s.In(New(Avro, r))
	row := map[string]any{"id": 1, "total": map[string]any{"bytes.decimal": big.NewRat(9990, 100)}, "made": int64(1790000000123456)}
	body := avroOf(t, text, map[string]any{
		"before": nil, "after": map[string]any{"shop.public.orders.Value": row}, "op": "u", "ts_ms": nil,
		"source": map[string]any{"table": "orders", "ts_ms": int64(1790000000123), "snapshot": map[string]any{"string": "false"}},
	})
	want := `{"before":null,"after":{"id":1,"total":99.90,"made":1790000000123456},"source":{"table":"orders","ts_ms":1790000000123,"snapshot":"false"},"op":"u","ts_ms":null}`
	paths := event.NewPaths([]event.Path{{"event_type"}, {"amount"}, {"timestamp"}})
	var d topic.Decoder
	data, ev, err := s.Decode(t.Context(), &d, &kgo.Record{Value: registrytest.Framed(7, body)}, paths)
	if err != nil || string(data) != want || string(ev.Type) != "u" || event.KeyNumber(ev.First(1).Key) != 99.9 || string(ev.First(2).Text) != "2026-09-21T14:13:20.123Z" {
		t.Errorf("got %s, %v\nwant %s", data, err, want)
	}
	if _, _, err := s.Decode(t.Context(), &d, &kgo.Record{Key: []byte("k")}, paths); !errors.Is(err, topic.ErrTombstone) {
		t.Errorf("tombstone: %v", err)
	}
}
