package filter_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestCorners runs testdata/corners.txt, which says how it is written.
func TestCorners(t *testing.T) {
	filtertest.RunCorners(t, "testdata/corners.txt", func(s filter.Spec) func(raw []byte) bool {
		return func(raw []byte) bool {
			ev, err := filter.DecodeEvent(raw)
			if err != nil {
				t.Fatalf("event %.100s: %v", raw, err)
			}
			return s.Match(ev)
		}
	})
}

func TestRefusedCorners(t *testing.T) {
	var at filtertest.Corner
	var got, want []string
	compare := func() {
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("line %d: refused %.200s: got\n= %s\nwant\n= %s", at.Number, at.Text, strings.Join(got, "\n= "), strings.Join(want, "\n= "))
		}
	}
	for _, l := range filtertest.Corners(t, "testdata/corners.txt") {
		switch l.Mark {
		case "refused":
			compare()
			at, got, want = l, nil, nil
			_, err := filter.ParseSpec(l.WithField("subscriber_id"), nil)
			bad, ok := errors.AsType[*filter.Invalid](err)
			if !ok {
				t.Errorf("line %d: filter %.200s: error %v, want *Invalid", l.Number, l.Text, err)
				continue
			}
			for _, p := range bad.Problems {
				got = append(got, p.Field+": "+p.Detail)
			}
		case "=":
			want = append(want, l.Text)
		}
	}
	compare()
}

// TestLanguageExamples: what LANGUAGE.md shows is accepted.
func TestLanguageExamples(t *testing.T) {
	text, err := os.ReadFile("LANGUAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for dec := json.NewDecoder(strings.NewReader(block[1])); dec.More(); n++ {
			var body json.RawMessage
			if err := dec.Decode(&body); err != nil {
				t.Fatalf("%v in %s", err, block[1])
			}
			translate := func(string) ([]filter.Where, error) { return []filter.Where{{"a": {Eq: new(filter.Num(1))}}}, nil }
			if _, err := filter.ParseSpec(body, translate); err != nil {
				t.Errorf("%s is refused: %v", body, err)
			}
		}
	}
	if n < 6 {
		t.Errorf("LANGUAGE.md has %d examples, want at least 6", n)
	}
}
