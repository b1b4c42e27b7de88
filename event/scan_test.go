package event

import (
	"bytes"
	"testing"
)

// Every byte must be told apart at every place of a word, whatever follows it.
func TestSpecial(t *testing.T) {
	for at := range 8 {
		for c := range 256 {
			for _, rest := range []byte{'a', ' ', '!', '#', '"', '\\', 0, 0x7f, 0x80, 0xdc, 0xff} {
				word := append(bytes.Repeat([]byte{'#'}, at), bytes.Repeat([]byte{rest}, 8-at)...)
				word[at] = byte(c)
				want := bytes.IndexFunc(word, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > 0x7f })
				m := special(load(word, 0))
				if m == 0 {
					if want >= 0 {
						t.Errorf("special(%q) = 0, want the byte %d", word, want)
					}
					continue
				}
				got := upTo(m) - 1
				if got != want {
					t.Errorf("special(%q) is the byte %d, want %d", word, got, want)
				}
				if below(m) != 1<<(8*got)-1 {
					t.Errorf("below(%#x) = %#x, want %d bytes", m, below(m), got)
				}
			}
		}
	}
}
