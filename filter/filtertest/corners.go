package filtertest

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"eventstream/filter"
)

// Corner is one line of testdata/corners.txt, which says how it is written. Comments are left out.
type Corner struct {
	Number     int
	Mark, Text string
}

// Corners reads testdata/corners.txt, or a file like it.
func Corners(t testing.TB, path string) []Corner {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []Corner
	for i, text := range strings.Split(string(file), "\n") {
		if text == "" || text[0] == '#' {
			continue
		}
		mark, text, ok := strings.Cut(repeat(text), " ")
		if !ok || !strings.Contains(" filter refused + - = ", " "+mark+" ") {
			t.Fatalf("line %d of %s begins with none of its marks", i+1, path)
		}
		lines = append(lines, Corner{i + 1, mark, text})
	}
	return lines
}

// RunCorners checks match, which turns a filter into a function that reports whether it
// matches an event, against what the file says.
func RunCorners(t *testing.T, path string, match func(filter.Spec) func(raw []byte) bool) {
	var matches func([]byte) bool
	for _, l := range Corners(t, path) {
		switch l.Mark {
		case "filter":
			s, err := filter.ParseSpec(l.WithField("subscriber_id"), nil)
			if err != nil {
				t.Fatalf("line %d: filter %.200s is refused: %v", l.Number, l.Text, err)
			}
			matches = match(s)
		case "+", "-":
			if got, want := matches(l.WithField("event_type")), l.Mark == "+"; got != want {
				t.Errorf("line %d: %.200s: match = %t, want %t", l.Number, l.Text, got, want)
			}
		}
	}
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

// WithField returns the line's JSON with a field added, unless it has it.
func (l *Corner) WithField(name string) []byte {
	if strings.Contains(l.Text, `"`+name+`":`) {
		return []byte(l.Text)
	}
	field := `"` + name + `":"t"`
	if l.Text != "{}" {
		field += ","
	}
	return []byte("{" + field + l.Text[1:])
}
