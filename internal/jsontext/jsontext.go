// Package jsontext finds what is no Unicode in JSON: bytes that are not UTF-8, and
// halves of surrogate pairs. encoding/json, and what is made from it, reads U+FFFD in
// their place, and two names that differ become one (RFC 8259 section 8, RFC 7493
// section 2.1).
package jsontext

import (
	"bytes"
	"encoding/hex"
	"unicode/utf16"
	"unicode/utf8"
)

// Flaw returns where JSON has the first such thing, and what it is for people to
// read; "" if there is none. Whether it is JSON it does not say.
func Flaw(json []byte) (at int, flaw string) {
	if !utf8.Valid(json) {
		return invalidAt(json), "not valid UTF-8"
	}
	for at < len(json) {
		i := bytes.IndexByte(json[at:], '\\')
		if i < 0 {
			break
		}
		at += i
		first, ok := escaped(json[at:])
		switch {
		case !ok:
			at += 2 // whatever is escaped, perhaps a backslash
		case !utf16.IsSurrogate(first):
			at += 6
		default:
			second, _ := escaped(json[at+6:])
			if utf16.DecodeRune(first, second) == utf8.RuneError {
				return at, string(json[at:at+6]) + " is half of a surrogate pair, and no character"
			}
			at += 12
		}
	}
	return 0, ""
}

// escaped returns the number of an escape \uXXXX that s begins with, and whether it does.
func escaped(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var b [2]byte
	if _, err := hex.Decode(b[:], s[2:6]); err != nil {
		return 0, false
	}
	return rune(b[0])<<8 | rune(b[1]), true
}

func invalidAt(b []byte) (at int) {
	for {
		r, size := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && size < 2 {
			return at
		}
		at += size
	}
}
