package flame

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// sample is a stack, innermost first, and what it took.
func sample(v int64, stack ...*profile.Location) *profile.Sample {
	return &profile.Sample{Location: stack, Value: []int64{1, v}}
}

func TestWrite(t *testing.T) {
	var fns []*profile.Function
	for i, name := range []string{"main.main", "main.work", "main.inlined", "</script>"} {
		fns = append(fns, &profile.Function{ID: uint64(i + 1), Name: name})
	}
	at := func(id uint64, lines ...int) *profile.Location {
		l := &profile.Location{ID: id}
		for _, f := range lines {
			l.Line = append(l.Line, profile.Line{Function: fns[f]})
		}
		return l
	}
	main, work, both, odd := at(1, 0), at(2, 1), at(3, 2, 1), at(4, 3)
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Function:   fns, Location: []*profile.Location{main, work, both, odd},
		Sample: []*profile.Sample{sample(10, work, main), sample(30, both, main), sample(2, odd, main)},
	}
	var raw, out bytes.Buffer
	if err := p.Write(&raw); err != nil {
		t.Fatal(err)
	}
	if err := Write(&out, &raw, "a title"); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(out.String(), "const data = ")
	line, _, _ := strings.Cut(after, ";\n")
	var got struct {
		Unit string
		Root node
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("the page's data is no JSON: %v: %s", err, line)
	}
	want := `{"n":"all","v":42,"c":[{"n":"main.main","v":42,"c":[{"n":"main.work","v":40,"c":[{"n":"main.inlined","v":30}]},{"n":"\u003c/script\u003e","v":2}]}]}`
	if tree, _ := json.Marshal(got.Root); string(tree) != want || got.Unit != "nanoseconds" {
		t.Errorf("tree in %s:\n%s\nwant, in nanoseconds:\n%s", got.Unit, tree, want)
	}
	if strings.Count(out.String(), "</script>") != 1 {
		t.Error("a function's name ends the script")
	}
}

func TestWriteNonsense(t *testing.T) {
	if err := Write(&bytes.Buffer{}, strings.NewReader("nonsense"), "x"); err == nil {
		t.Error("what is no profile was drawn")
	}
}
