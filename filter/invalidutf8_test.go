package filter

import (
	"errors"
	"strings"
	"testing"
)

// Names and values that differ stay two: what is no Unicode is refused wherever it
// stands, not replaced.
func TestNoUnicode(t *testing.T) {
	for _, body := range []string{
		`{"subscriber_id":"u@","event_types":["a"]}`,
		`{"subscriber_id":"u","event_types":["@"]}`,
		`{"subscriber_id":"u","where":{"a@":"b"}}`,
		`{"subscriber_id":"u","where":{"a":{"prefix":"@"}}}`,
		`{"subscriber_id":"u","any":[{"where":{"a":{"in":["@"]}}}]}`,
		`{"subscriber_id":"u","event_types":["a"],"@":1}`,
	} {
		for _, bad := range []string{`\ud800`, `\udfff`, `\ude00\ud83d`, "\xff", "\xed\xa0\x80"} {
			text := strings.ReplaceAll(body, "@", bad)
			if s, err := ParseSpec([]byte(text), nil); !errors.Is(err, ErrSyntax) {
				t.Errorf("ParseSpec(%q) = %+v, %v", text, s, err)
			}
			if s, err := ParseStored([]byte(text), nil); !errors.Is(err, ErrSyntax) {
				t.Errorf("ParseStored(%q) = %+v, %v", text, s, err)
			}
			old := Spec{SubscriberID: "u", EventTypes: []string{"a"}}
			if s, err := old.Patch([]byte(text), nil); !errors.Is(err, ErrSyntax) {
				t.Errorf("Patch(%q) = %+v, %v", text, s, err)
			}
		}
	}
	if _, err := ParseSpec([]byte(`{"subscriber_id":"u\ud83d\ude00","event_types":["\\ud800"]}`), nil); err != nil {
		t.Error(err)
	}
}
