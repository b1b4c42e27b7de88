package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// engines are the ways to match. Each turns a filter into a function that tells
// whether it matches an event.
var engines = map[string]func(Spec) func(raw []byte) bool{
	"Spec.Match": func(s Spec) func([]byte) bool {
		return func(raw []byte) bool {
			ev, err := DecodeEvent(raw)
			if err != nil {
				panic(fmt.Sprintf("event %.100s: %v", raw, err))
			}
			return s.Match(ev)
		}
	},
	"Index": func(s Spec) func([]byte) bool {
		x := NewIndex()
		x.Add(x.Intern(&s), 7)
		snap := x.Snapshot()
		return func(raw []byte) bool {
			var r reader
			found, err := r.match(snap, raw)
			if err != nil {
				panic(fmt.Sprintf("event %.100s: %v", raw, err))
			}
			return len(found) == 1
		}
	},
}

// TestCorners runs testdata/corners.txt, which says how it is written.
func TestCorners(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			var match func([]byte) bool
			for _, l := range readCorners(t) {
				switch l.mark {
				case "filter":
					s, err := ParseSpec(l.withField("subscriber_id"), nil)
					if err != nil {
						t.Fatalf("line %d: filter %.200s is refused: %v", l.number, l.text, err)
					}
					match = engine(s)
				case "+", "-":
					if got, want := match(l.withField("event_type")), l.mark == "+"; got != want {
						t.Errorf("line %d: %.200s: match = %t, want %t", l.number, l.text, got, want)
					}
				}
			}
		})
	}
}

func TestRefusedCorners(t *testing.T) {
	var at cornerLine
	var got, want []string
	compare := func() {
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("line %d: refused %.200s: got\n= %s\nwant\n= %s", at.number, at.text, strings.Join(got, "\n= "), strings.Join(want, "\n= "))
		}
	}
	for _, l := range readCorners(t) {
		switch l.mark {
		case "refused":
			compare()
			at, got, want = l, nil, nil
			_, err := ParseSpec(l.withField("subscriber_id"), nil)
			bad, ok := errors.AsType[*Invalid](err)
			if !ok {
				t.Errorf("line %d: filter %.200s: error %v, want *Invalid", l.number, l.text, err)
				continue
			}
			for _, p := range bad.Problems {
				got = append(got, p.Field+": "+p.Detail)
			}
		case "=":
			want = append(want, l.text)
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
			translate := func(string) ([]Where, error) { return []Where{{"a": {Eq: new(Num(1))}}}, nil }
			if _, err := ParseSpec(body, translate); err != nil {
				t.Errorf("%s is refused: %v", body, err)
			}
		}
	}
	if n < 6 {
		t.Errorf("LANGUAGE.md has %d examples, want at least 6", n)
	}
}

// cornerLine is one line of the file, without its comments.
type cornerLine struct {
	number     int
	mark, text string
}

func readCorners(t testing.TB) []cornerLine {
	t.Helper()
	file, err := os.ReadFile("testdata/corners.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []cornerLine
	for i, text := range strings.Split(string(file), "\n") {
		if text == "" || text[0] == '#' {
			continue
		}
		mark, text, ok := strings.Cut(repeat(text), " ")
		if !ok || !strings.Contains(" filter refused + - = ", " "+mark+" ") {
			t.Fatalf("line %d of corners.txt begins with none of its marks", i+1)
		}
		lines = append(lines, cornerLine{i + 1, mark, text})
	}
	return lines
}

var repetition = regexp.MustCompile(`\$\{(.*?)\*(\d+)\}`)

// repeat writes out ${ab*3}.
func repeat(s string) string {
	return repetition.ReplaceAllStringFunc(s, func(m string) string {
		parts := repetition.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[2]) // it is digits
		return strings.Repeat(parts[1], n)
	})
}

// withField returns the line's JSON with a field that it must have.
func (l *cornerLine) withField(name string) []byte {
	if strings.Contains(l.text, `"`+name+`":`) {
		return []byte(l.text)
	}
	field := `"` + name + `":"t"`
	if l.text != "{}" {
		field += ","
	}
	return []byte("{" + field + l.text[1:])
}
