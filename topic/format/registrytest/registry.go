// Package registrytest is a Schema Registry for tests. It speaks what we use of Confluent's
// API, and can be made to fail.
package registrytest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
)

// Registry is a http.Handler.
type Registry struct {
	mu       sync.Mutex
	schemas  map[int]sr.Schema
	subjects map[string]sr.Schema // by subject/version
	deleted  map[int]bool
	asked    []string // paths of all requests
	answer   func(w http.ResponseWriter, r *http.Request) bool
}

// New returns an empty Registry.
func New() *Registry {
	return &Registry{schemas: make(map[int]sr.Schema), subjects: make(map[string]sr.Schema), deleted: make(map[int]bool)}
}

// Start returns an empty Registry that serves at a URL until the test ends.
func Start(t testing.TB) (r *Registry, url string) {
	r = New()
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return r, srv.URL
}

// Add gives a schema an id, and makes it the first version of a subject that is called like it.
func (r *Registry) Add(id int, s sr.Schema) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.schemas[id] = s
	r.subjects[fmt.Sprintf("subject-%d/1", id)] = s
}

// Delete deletes the subject of an id, softly: the schema stays under its id, and its version
// for who asks for those that are deleted.
func (r *Registry) Delete(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deleted[id] = true
}

// Ref refers to the schema of an id by a name.
func Ref(name string, id int) sr.SchemaReference {
	return sr.SchemaReference{Name: name, Subject: fmt.Sprint("subject-", id), Version: 1}
}

// Answer makes answer see each request first. It returns whether it has answered.
func (r *Registry) Answer(answer func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// Asked returns the paths of all requests.
func (r *Registry) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, req.URL.Path)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil && answer(w, req) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	var id, version int
	var subject string
	if n, _ := fmt.Sscanf(req.URL.Path, "/schemas/ids/%d", &id); n == 1 {
		s, ok := r.schemas[id]
		if !ok {
			fail(w, 40403, fmt.Sprintf("Schema %d not found", id))
			return
		}
		json.NewEncoder(w).Encode(s)
		return
	}
	if n, _ := fmt.Sscanf(req.URL.Path, "/subjects/subject-%d/versions/%d", &id, &version); n == 2 {
		subject = fmt.Sprintf("subject-%d", id)
		s, ok := r.subjects[fmt.Sprintf("%s/%d", subject, version)]
		if !ok || r.deleted[id] && req.URL.Query().Get("deleted") != "true" {
			fail(w, 40401, "Subject '"+subject+"' not found.")
			return
		}
		json.NewEncoder(w).Encode(sr.SubjectSchema{Subject: subject, Version: version, ID: id, Schema: s})
		return
	}
	fail(w, 404, "HTTP 404 Not Found")
}

func fail(w http.ResponseWriter, code int, message string) {
	status := code
	for status > 999 {
		status /= 100
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error_code":%d,"message":%q}`, code, message)
}

// Framed returns a value with the frame of a schema.
func Framed(id int, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), body...)
}
