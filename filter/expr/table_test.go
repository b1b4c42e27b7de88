package expr

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"eventstream/filter"
)

var update = flag.Bool("update", false, "write testdata/expr.txt anew, with what is returned now")

const table = "testdata/expr.txt"

// TestTable translates what is in testdata/expr.txt: expressions, each followed
// by its alternatives as JSON, one a line, or by its error, after a tab.
func TestTable(t *testing.T) {
	raw, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	var now strings.Builder
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		src, want := split(block)
		if src == "" { // a comment
			now.WriteString(strings.TrimRight(block, "\n") + "\n\n")
			continue
		}
		got := outcome(src)
		now.WriteString(src + "\n" + got + "\n")
		if got != want && !*update {
			t.Errorf("%s\ngot\n%swant\n%s", src, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(table, []byte(strings.TrimRight(now.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// split splits a block into the expression and what follows it.
func split(block string) (src, want string) {
	for line := range strings.Lines(block) {
		switch line = strings.TrimRight(line, "\n"); {
		case strings.HasPrefix(line, "\t"):
			want += line + "\n"
		case strings.HasPrefix(line, "#") && src == "":
			return "", ""
		case line != "":
			src += "\n" + line
		}
	}
	return strings.TrimPrefix(src, "\n"), want
}

// outcome returns what src is translated to, as it is in the table.
func outcome(src string) string {
	alternatives, err := Translate(src)
	var syntax *filter.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return "\t" + syntax.Error() + "\n"
	case err != nil:
		return "\tnot a SyntaxError: " + err.Error() + "\n"
	}
	var out strings.Builder
	for _, w := range alternatives {
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		out.WriteByte('\t')
		if err := enc.Encode(w); err != nil {
			return "\tnot JSON: " + err.Error() + "\n"
		}
	}
	return out.String()
}
