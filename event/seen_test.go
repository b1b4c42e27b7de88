package event

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSeen(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []int64
	}{
		{"0-0", []int64{1}},
		{"3-10293", []int64{0, 0, 0, 10294}},
		{"2-7,0-5", []int64{6, 0, 8}},
		{"0-9223372036854775805", []int64{maxOffset}},
	} {
		got, err := ParseSeen(tt.text)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseSeenRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"no id":              "abc",
		"a space":            "0-1, 1-2",
		"nothing between":    "0-1,,1-2",
		"comma at the end":   "0-1,",
		"another spelling":   "0-01",
		"a sign":             "0-+1",
		"negative":           "0--1",
		"twice":              "0-1,1-1,0-2",
		"the same twice":     "0-1,0-1",
		"many partitions":    "4096-1",
		"far too many":       "2147483647-1",
		"the largest offset": "0-9223372036854775807",
		"no offset after":    "0-9223372036854775806",
		"overflow":           "0-9223372036854775808",
	} {
		if got, err := ParseSeen(text); !errors.Is(err, ErrSeen) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, ErrSeen)
		}
	}
}

// A client that has what a cursor says, and what it says itself, goes on behind both.
func TestCursorSince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCursor(t)
		seen := make([]int64, rapid.IntRange(0, 64).Draw(t, "partitions"))
		for p := range seen {
			if rapid.Bool().Draw(t, "seen") {
				seen[p] = rapid.Int64Range(1, maxOffset).Draw(t, "next")
			}
		}
		before := slices.Clone(c.Next)
		got, err := c.Since(seen)
		if !slices.Equal(c.Next, before) {
			t.Errorf("the cursor was changed from %v to %v", before, c.Next)
		}
		bad := false
		for p, n := range seen {
			bad = bad || n > 0 && p < len(c.Next) && n <= c.Next[p]
		}
		if bad {
			if !errors.Is(err, ErrSeen) {
				t.Errorf("%v since %v: got %v, want %v", seen, c.Next, err, ErrSeen)
			}
			return
		}
		if err != nil {
			t.Fatalf("%v since %v: %v", seen, c.Next, err)
		}
		for p := range max(len(c.Next), len(seen)) {
			var want int64
			if p < len(c.Next) {
				want = c.Next[p]
			}
			if p < len(seen) {
				want = max(want, seen[p])
			}
			if got.Next[p] != want {
				t.Errorf("%v since %v: partition %d is at %d, want %d", seen, c.Next, p, got.Next[p], want)
			}
		}
		if again, err := ParseCursor(got.String()); err != nil || !slices.Equal(again.Next, got.Next) {
			t.Errorf("as a cursor: %v, %v, want %v", again, err, got.Next)
		}
	})
}

func FuzzParseSeen(f *testing.F) {
	for _, text := range []string{"", "0-0", "3-10293,5-88", "0-1,0-2", "4095-9223372036854775805", "4096-0", "0-1,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		next, err := ParseSeen(text)
		if err != nil {
			if !errors.Is(err, ErrSeen) {
				t.Errorf("%q: err = %v, want %v", text, err, ErrSeen)
			}
			return
		}
		if len(next) > MaxPartitions {
			t.Fatalf("%q: %d partitions", text, len(next))
		}
		said := strings.Split(text, ",")
		got := strings.Split(string(AppendSeen(nil, next)), ",")
		slices.Sort(said)
		slices.Sort(got)
		if !slices.Equal(got, said) {
			t.Errorf("%q: as text again %q", text, got)
		}
		for _, one := range said {
			id, err := ParseID(one)
			if err != nil || next[id.Partition] != id.Offset+1 {
				t.Errorf("%q: %s is at %d, %v", text, one, next[id.Partition], err)
			}
		}
		c, err := (&Cursor{}).Since(next)
		if err != nil {
			t.Fatalf("%q: since the start: %v", text, err)
		}
		if again, err := ParseCursor(c.String()); err != nil || !slices.Equal(again.Next, next) {
			t.Errorf("%q: as a cursor %v, %v, want %v", text, again, err, next)
		}
	})
}
