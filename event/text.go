package event

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// appendUnescaped appends the text of a string that skipString has accepted, as
// encoding/json would: half of a surrogate pair becomes U+FFFD.
func appendUnescaped(to, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(to, s...)
		}
		to = append(to, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		case 'n':
			to = append(to, '\n')
		case 'r':
			to = append(to, '\r')
		case 't':
			to = append(to, '\t')
		case 'u':
			var r rune
			r, s = unescapeRune(s)
			to = utf8.AppendRune(to, r)
		default: // itself
			to = append(to, c)
		}
	}
}

// unescapeRune returns the rune of the digits after \u, and what follows them
// and, if they are one half of a surrogate pair, the other half.
func unescapeRune(s []byte) (rune, []byte) {
	r, _ := hex4(s)
	s = s[4:]
	if !utf16.IsSurrogate(r) {
		return r, s
	}
	if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
		second, _ := hex4(s[2:])
		if pair := utf16.DecodeRune(r, second); pair != unicode.ReplacementChar {
			return pair, s[6:]
		}
	}
	return unicode.ReplacementChar, s
}

// hex4 returns the value of the four hexadecimal digits that s begins with, and
// whether it does.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
