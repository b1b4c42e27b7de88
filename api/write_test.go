package api_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/store"
)

func TestPatch(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(`{"subscriber_id":"ada","event_types":["purchase"],"where":{"a":{"gt":1,"lt":5}}}`)
	const merge = "application/merge-patch+json"
	for _, tt := range []struct {
		contentType, body, ifMatch string
		status                     int
		want                       string
	}{
		{merge, `{"event_types":null,"where":{"a":{"lt":7}}}`, "", 200, `"revision":2,"subscriber_id":"ada","where":{"a":{"gt":1,"lt":7}}}`},
		{"application/json", `{"min_amount":5}`, `"2"`, 200, `"revision":3,"subscriber_id":"ada","min_amount":5,"where":{"a":{"gt":1,"lt":7}}}`},
		{"application/x-www-form-urlencoded", `{"where":null}`, `"1", "3"`, 200, `"revision":4,"subscriber_id":"ada","min_amount":5}`},
		{merge, `{"min_amount":6}`, `"3"`, 412, `revision-mismatch`},
		{merge, `{"subscriber_id":"bob"}`, "", 409, `other-subscriber`},
		{merge, `{"min_amount":null}`, "", 422, `no condition`},
		{merge, `{"min_amount":"1"}`, "", 422, `/min_amount: want a number that fits a 64-bit float, got \"1\"`},
		{merge, `[]`, "", 400, `malformed-json`},
		{merge, `[]`, `"3"`, 400, `malformed-json`},
		{merge, `{"min_amount":null}`, `"3"`, 422, `no condition`},
		{"application/json-patch+json", `[]`, "", 415, `send application/merge-patch+json or application/json`},
		{merge, `{"expr":"b == 1"}`, "", 200, `"expr":"b == 1","expr_any":[{"b":{"eq":1}}]`},
		{merge, `{"min_amount":7}`, "", 200, `"min_amount":7,"expr":"b == 1","expr_any":[{"b":{"eq":1}}]`},
		{merge, `{"expr":null}`, "", 200, `"revision":7,"subscriber_id":"ada","min_amount":7}`},
	} {
		headers := []string{"Content-Type", tt.contentType}
		if tt.ifMatch != "" {
			headers = append(headers, "If-Match", tt.ifMatch)
		}
		a := s.do("PATCH", path, tt.body, headers...)
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("PATCH %s: %d %s; want %d, %s", tt.body, a.status, a.body, tt.status, tt.want)
		}
		if (a.status == 415) != (a.header.Get("Accept-Patch") != "") {
			t.Errorf("PATCH %s: %d with Accept-Patch %q", tt.body, a.status, a.header.Get("Accept-Patch"))
		}
	}
	want(t, "published", len(s.publisher.changes), 7)
	want(t, "PATCH of nobody's", s.do("PATCH", "/filters/01890a5d-ac96-774b-bcce-b302099a8057", `{}`).status, 404)
}

// TestPatchesMerge has many clients patch one filter, each something else: all
// of it is there in the end.
func TestPatchesMerge(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	path, _ := s.create(adas)
	var wg sync.WaitGroup
	for _, name := range strings.Split("abcdefgh", "") {
		wg.Go(func() {
			want(t, "PATCH", s.do("PATCH", path, `{"where":{"`+name+`":{"eq":1}}}`).status, 200)
		})
	}
	wg.Wait()
	var f filter.Filter
	if err := unmarshal(s.do("GET", path, "").body, &f); err != nil || len(f.Where) != 8 || f.Revision != 9 {
		t.Errorf("%+v, %v; want 8 attributes and revision 9", f, err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	post := func(key, body string) answer { return s.do("POST", "/filters", body, "Idempotency-Key", key) }
	first := post("k1", adas)
	want(t, "first", first.status, 201)
	want(t, "first: Idempotent-Replayed", first.header.Get("Idempotent-Replayed"), "")
	path := first.header.Get("Location")
	s.do("PUT", path, strings.Replace(adas, "purchase", "refund", 1))
	again := func(what string) {
		t.Helper()
		a := post("k1", ` {"event_types": ["purchase"], "subscriber_id": "ada"}`) // the same, written in another way
		want(t, what+": status", a.status, 201)
		want(t, what+": body", a.body, first.body)
		want(t, what+": Idempotent-Replayed", a.header.Get("Idempotent-Replayed"), "true")
		for _, h := range []string{"Location", "ETag"} {
			want(t, what+": "+h, a.header.Get(h), first.header.Get(h))
		}
	}
	again("repeat")
	told := s.publisher.changes[len(s.publisher.changes)-1]
	want(t, "told at a repeat: revision", told.Revision, int64(2))
	a := post("k1", strings.Replace(adas, "purchase", "refund", 1))
	want(t, "another body", a.status, 422)
	if !strings.Contains(a.body, "idempotency-key-reused") {
		t.Errorf("another body: %s", a.body)
	}
	want(t, "another key", post("k2", adas).status, 201)

	s.do("DELETE", path, "")
	published := len(s.publisher.changes)
	again("repeat after DELETE")
	want(t, "told of what is deleted", len(s.publisher.changes), published)
	want(t, "GET what was deleted", s.do("GET", path, "").status, 404)

	for _, key := range []string{"", "a b", "ä", strings.Repeat("x", 256)} {
		want(t, "key "+key, post(key, adas).status, 400)
	}
	want(t, "two keys", s.do("POST", "/filters", adas, "Idempotency-Key", "a", "Idempotency-Key", "b").status, 400)
}

func TestImportTwice(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	post := func(body string) answer { return s.do("POST", "/filters:import", body, "Idempotency-Key", "k") }
	s.publisher.fail(errors.New("redis is away"))
	want(t, "first", post(adas+"\n"+adas).status, 202)
	s.publisher.fail(nil)
	a := post("\n" + adas + "\n " + adas + "\n") // the same, written in another way
	want(t, "repeat", a.status, 200)
	want(t, "repeat: body", a.body, `{"imported":2}`+"\n")
	want(t, "repeat: Idempotent-Replayed", a.header.Get("Idempotent-Replayed"), "true")
	want(t, "told at the repeat", s.publisher.bulk, 1)
	if a := post(adas); a.status != 422 || !strings.Contains(a.body, "idempotency-key-reused") {
		t.Errorf("with other lines: %d %s", a.status, a.body)
	}
	want(t, "a key that is none", s.do("POST", "/filters:import", adas, "Idempotency-Key", "a b").status, 400)
	want(t, "stored", strings.Count(s.do("GET", "/filters:export", "").body, "\n"), 2)
}

// TestIdempotencyKeyAfterHalfAWrite: a repeat of what was stored, but not
// published, is published.
func TestIdempotencyKeyAfterHalfAWrite(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	s.publisher.fail(errors.New("redis is away"))
	for range 2 {
		want(t, "POST", s.do("POST", "/filters", adas, "Idempotency-Key", "k").status, 202)
	}
	s.publisher.fail(nil)
	want(t, "POST", s.do("POST", "/filters", adas, "Idempotency-Key", "k").status, 201)
	want(t, "published", len(s.publisher.changes), 1)
}

func TestDeleteAllOfASubscriber(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	for range 3 {
		s.create(adas)
	}
	bobs, _ := s.create(strings.Replace(adas, "ada", "bob", 1))
	want(t, "DELETE without a subscriber", s.do("DELETE", "/filters", "").status, 400)
	want(t, "DELETE with a limit", s.do("DELETE", "/filters?subscriber_id=ada&limit=1", "").status, 400)
	want(t, "DELETE with If-Match", s.do("DELETE", "/filters?subscriber_id=ada", "", "If-Match", `"1"`).status, 400)
	a := s.do("DELETE", "/filters?subscriber_id=ada", "")
	want(t, "DELETE", a.status, 200)
	want(t, "DELETE: body", a.body, `{"deleted":3}`+"\n")
	want(t, "DELETE again", s.do("DELETE", "/filters?subscriber_id=ada", "").body, `{"deleted":0}`+"\n")
	want(t, "published", s.publisher.bulk, 2)
	want(t, "GET bob's", s.do("GET", bobs, "").status, 200)
	s.publisher.fail(errors.New("redis is away"))
	a = s.do("DELETE", "/filters?subscriber_id=bob", "")
	want(t, "DELETE without Redis", a.status, 202)
	if !strings.HasPrefix(a.body, `{"deleted":1,"applied":false,"detail":"stored, but`) {
		t.Errorf("DELETE without Redis: %s", a.body)
	}
}
