package event

import (
	"fmt"
	"slices"
	"testing"
)

func TestDecodeManyPaths(t *testing.T) {
	const n = 100_000
	list := make([]Path, n)
	for i := range list {
		switch i % 3 {
		case 0:
			list[i] = Path{fmt.Sprint("k", i)}
		case 1:
			list[i] = Path{fmt.Sprint("k", i-1), fmt.Sprint("k", i)} // continues the one before
		case 2:
			list[i] = Path{"deep", "er", fmt.Sprint(i)}
		}
	}
	paths := NewPaths(list)
	var d Decoder
	for i := 3; i < n-3; i += 997 * 3 {
		raw := fmt.Sprintf(`{"event_type":"t","k%d":{"k%d":1},"deep":{"er":{"%d":2,"x":3}},"k":4,"kk%d":5}`, i, i+1, i+2, i)
		ev, err := d.Decode([]byte(raw), paths)
		if err != nil {
			t.Fatal(err)
		}
		got, want := slices.Sorted(slices.Values(ev.Attrs())), []Attr{0, Attr(i), Attr(i + 1), Attr(i + 2)}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: Attrs = %v, want %v", raw, got, want)
		}
	}
}

// A guess must not outlive its Paths, nor be taken for a key of another object.
func TestDecodeGuesses(t *testing.T) {
	ab, ba := NewPaths([]Path{nil, {"a"}, {"b"}, {"b", "a"}}), NewPaths([]Path{nil, {"b"}, {"a"}, {"a", "a"}})
	var d Decoder
	for _, tt := range []struct {
		paths *Paths
		raw   string
		want  []string
	}{
		{ab, `{"event_type":"t","a":1,"b":2,"c":3}`, []string{`"t"`, "1", "2", ""}},
		{ab, `{"event_type":"t","a":4,"b":5,"c":6}`, []string{`"t"`, "4", "5", ""}},
		{ba, `{"event_type":"t","a":1,"b":2,"c":3}`, []string{`"t"`, "2", "1", ""}},
		{ba, `{"event_type":"t","a":{"a":4},"c":5}`, []string{`"t"`, "", "other", "4"}},
		{ba, `{"event_type" :"t","a" : {"a": 4},"c":5}`, []string{`"t"`, "", "other", "4"}},
		{ab, `{"event_type":"t","b":{"a":4},"a":5}`, []string{`"t"`, "5", "other", "4"}},
		{ab, `{"event_type":"t","b":[{"a":4,"b":5},{"a":6,"a":7}],"a":5}`, []string{`"t"`, "5", "other other", "4 7"}},
		{ab, `{"event_type":"t","b" :[{"a": 4,"b":5},{"a":6,"a":` + "\t" + `7}],"a":5}`, []string{`"t"`, "5", "other other", "4 7"}},
		{ab, `{"event_type":"t","b":1,"b":2,"c":3}`, []string{`"t"`, "", "2", ""}},
	} {
		ev, err := d.Decode([]byte(tt.raw), tt.paths)
		if err != nil {
			t.Fatalf("%s: %v", tt.raw, err)
		}
		if got := show(ev, 4); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.raw, got, tt.want)
		}
	}
	for _, raw := range []string{`{"event_type":`, `{"event_type":"t","b":`, `{"event_type":"t","b":1,"c":                `} {
		if _, err := d.Decode([]byte(raw), ab); err != ErrNotJSON {
			t.Errorf("%s: err = %v, want %v", raw, err, ErrNotJSON)
		}
	}
}

func BenchmarkNewPaths(b *testing.B) {
	list := make([]Path, 100_000)
	for i := range list {
		list[i] = Path{fmt.Sprint("attribute", i)}
	}
	b.Run("paths=100k", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewPaths(list)
		}
	})
}
