package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFlaw(t *testing.T) {
	for _, tt := range []struct {
		json string
		at   int
		flaw string
	}{
		{``, 0, ""},
		{`"user_1"`, 0, ""},
		{`"käthe 😀"`, 0, ""},
		{`"\ud83d\ude00 \uD83D\uDE00"`, 0, ""},
		{`"\ufffd ` + "\ufffd" + `"`, 0, ""}, // that is a character like any other
		{`"\\ud800"`, 0, ""},                 // a backslash, and letters
		{`"\\\\ud800 \" \n"`, 0, ""},
		{`"u\ud800"`, 2, `\ud800`},
		{`"u\uDBFF"`, 2, `\uDBFF`},
		{`"\udc00"`, 1, `\udc00`},
		{`"\ude00\ud83d"`, 1, `\ude00`},
		{`"\ud83d\ud83d\ude00"`, 1, `\ud83d`},
		{`"\ud83d \ude00"`, 1, `\ud83d`},
		{`"\ud83d\n"`, 1, `\ud83d`},
		{`"\\\ud800"`, 3, `\ud800`},
		{`{"\ud800":1}`, 2, `\ud800`},
		{"\"a\xff\"", 2, "UTF-8"},
		{"\"\xed\xa0\x80\"", 1, "UTF-8"}, // the same half, in bytes
		{"\"\xc0\x80\"", 1, "UTF-8"},     // U+0000 at length
		{"\"\xf4\x90\x80\x80\"", 1, "UTF-8"},
		{`"\`, 0, ""}, {`"\u`, 0, ""}, {`"\ud8`, 0, ""}, {`"\uzzzz"`, 0, ""}, // no JSON
		{`"\ud800`, 1, `\ud800`},
	} {
		at, flaw := Flaw([]byte(tt.json))
		if at != tt.at || (flaw == "") != (tt.flaw == "") || !strings.Contains(flaw, tt.flaw) {
			t.Errorf("%q: %d, %q, want %d, %q", tt.json, at, flaw, tt.at, tt.flaw)
		}
	}
}

// FuzzFlaw has encoding/json say what it replaced: it writes a text that is a character
// shorter than one in which U+FFFD was there before.
func FuzzFlaw(f *testing.F) {
	for _, s := range []string{`"a"`, `"\ud800"`, `"\ud83d\ude00"`, "\"\xff\"", `"\\ud800"`, `"\ufffd"`, `"\ud83d\ud83d\ude00"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s string
		if json.Unmarshal(b, &s) != nil {
			Flaw(b) // does not panic
			return
		}
		written := strings.Count(string(b), "\ufffd")
		for rest := string(b); ; {
			i := strings.IndexByte(rest, '\\')
			if i < 0 {
				break
			}
			if strings.EqualFold(rest[i+1:min(i+6, len(rest))], "ufffd") {
				written++
			}
			rest = rest[i+2:]
		}
		if !utf8.Valid(b) { // each byte that is not is replaced; Count does not find them
			written = min(written, strings.Count(s, "\ufffd")-1)
		}
		replaced := strings.Count(s, "\ufffd") > written
		if _, flaw := Flaw(b); (flaw != "") != replaced {
			t.Errorf("%q is read as %q; flaw %q", b, s, flaw)
		}
	})
}
