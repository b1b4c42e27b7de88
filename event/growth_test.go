package event_test

import (
	"strings"
	"testing"

	"eventstream/event"
	"eventstream/internal/testenv"
)

// TestGrowthOfDecoding: an event costs as much as it is long, whatever it is made of,
// right or wrong.
func TestGrowthOfDecoding(t *testing.T) {
	paths := event.NewPaths([]event.Path{{"event_type"}, {"a"}, {"a", "b"}, {"a", "a"}, {"a", "a", "a"}, {"c"}})
	for _, tt := range []struct {
		name, piece, end string
		n                int
	}{
		{"values", `"a":[1,"x",true,null],`, ``, 40_000},
		{"a key again and again", `"a":{"a":{"a":1},"b":[1,2,3]},`, ``, 40_000},
		{"other keys", `"key":{"a":1},`, ``, 4000},
		{"text", `"c":"`, `x`, 20_000},
		{"escapes", `"c":"`, `\u00e9\n`, 20_000},
		{"digits", `"c":1`, `0`, 20_000},
		{"decimals", `"c":0.1`, `1`, 20_000},
		{"depth", `"a":`, `[`, event.MaxDepth / 9},
		{"too deep", `"a":`, `{"a":`, 4 * event.MaxDepth},
		{"not UTF-8", `"c":"`, "\xff", 20_000},
		{"space", ` `, ` `, 20_000},
	} { // the first two with more values than a Decoder keeps memory for
		testenv.Growth(t, tt.name, tt.n, func(n int) func() {
			body := strings.Repeat(tt.piece, n)
			if tt.end != "" {
				body = tt.piece + strings.Repeat(tt.end, n)
			}
			switch {
			case strings.HasSuffix(tt.piece, `"`):
				body += `",`
			case tt.name == "digits", tt.name == "decimals":
				body += ","
			case tt.name == "depth":
				body += strings.Repeat("]", n) + ","
			}
			raw := []byte(`{` + body + `"event_type":"x"}`)
			var d event.Decoder
			return func() { d.Decode(raw, paths) }
		})
	}
}

// TestGrowthOfCursors: those of many partitions, and what is none.
func TestGrowthOfCursors(t *testing.T) {
	for name, piece := range map[string]string{"letters": "A", "high bits": "_", "none": "!"} {
		testenv.Growth(t, name, 4000, func(n int) func() {
			text := strings.Repeat(piece, n)
			return func() { event.ParseCursor(text) }
		})
	}
	testenv.Growth(t, "partitions", 4000, func(n int) func() {
		c := event.Cursor{Next: make([]int64, n)}
		for i := range c.Next {
			c.Next[i] = int64(i) << 20
		}
		text := c.String()
		return func() { event.ParseCursor(text) }
	})
}
