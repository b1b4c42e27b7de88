package event

import "encoding/binary"

// The functions of this file scan one thing that begins at i, and return the
// place after it. If it is not as JSON has it, they return bad.

// What scanning returns in place of a place.
const (
	bad     = -1 // not JSON
	tooDeep = -2 // nested deeper than MaxDepth; what follows was not looked at
)

// skipSpace returns the place of the first byte from i on that is no white
// space, which may be the end of raw.
func skipSpace(raw []byte, i int) int {
	for i < len(raw) && raw[i] <= ' ' && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t') {
		i++
	}
	return i
}

// skipColon scans what is between a key and its value. It passes on an i that is
// no place.
func skipColon(raw []byte, i int) int {
	if i < 0 {
		return i
	}
	if i = skipSpace(raw, i); i >= len(raw) || raw[i] != ':' {
		return bad
	}
	return skipSpace(raw, i+1)
}

// skipComma scans what follows a value in an array or object: a comma if there
// are more, the closing bracket if not. It passes on an i that is no place.
func skipComma(raw []byte, i int, closing byte) (end int, more bool) {
	if i < 0 {
		return i, false
	}
	if i = skipSpace(raw, i); i >= len(raw) {
		return bad, false
	}
	switch raw[i] {
	case ',':
		return skipSpace(raw, i+1), true
	case closing:
		return i + 1, false
	}
	return bad, false
}

// skipString scans a string after its opening quote. It also tells whether there
// are escapes in it.
func (d *Decoder) skipString(i int) (end int, escaped bool) {
	raw := d.raw
	for end = i; end+8 <= len(raw); end += 8 {
		if m := special(load(raw, end)); m != 0 {
			if end += upTo(m); raw[end-1] == '"' {
				return end, false
			}
			break
		}
	}
	return d.skipHardString(i)
}

// skipHardString is skipString for strings in which there is more than plain
// ASCII, or that are near the end of raw.
func (d *Decoder) skipHardString(i int) (end int, escaped bool) {
	for i >= 0 && i < len(d.raw) {
		switch c := d.raw[i]; {
		case c == '"':
			return i + 1, escaped
		case c == '\\':
			i, escaped = skipEscape(d.raw, i), true
		case c < ' ':
			return bad, false
		default:
			i = d.skipPlain(i)
		}
	}
	return bad, false
}

// skipPlain returns the place of the first byte from i on that is a quote, a
// backslash or a control character, which may be the end of raw.
func (d *Decoder) skipPlain(i int) int {
	raw, seen := d.raw, uint64(0)
	for i+8 <= len(raw) {
		word := load(raw, i)
		if special(word&^high) != 0 {
			break
		}
		seen |= word
		i += 8
	}
	for i < len(raw) && raw[i] != '"' && raw[i] != '\\' && raw[i] >= ' ' {
		seen |= uint64(raw[i])
		i++
	}
	d.wide = d.wide || seen&high != 0
	return i
}

func skipEscape(raw []byte, i int) int {
	if i+1 >= len(raw) {
		return bad
	}
	switch raw[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		if _, ok := hex4(raw[i+2:]); ok {
			return i + 6
		}
	}
	return bad
}

func skipNumber(raw []byte, i int) int {
	if i < len(raw) && raw[i] == '-' {
		i++
	}
	if i < len(raw) && raw[i] == '0' {
		i++
	} else if i = skipDigits(raw, i); i < 0 {
		return bad
	}
	if i < len(raw) && raw[i] == '.' {
		if i = skipDigits(raw, i+1); i < 0 {
			return bad
		}
	}
	if i < len(raw) && raw[i]|0x20 == 'e' {
		i++
		if i < len(raw) && (raw[i] == '+' || raw[i] == '-') {
			i++
		}
		return skipDigits(raw, i)
	}
	return i
}

// skipDigits scans one digit or more.
func skipDigits(raw []byte, i int) int {
	start := i
	for i < len(raw) && raw[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return bad
	}
	return i
}

func skipWord(raw []byte, i int, word string) int {
	if len(raw)-i < len(word) || string(raw[i:i+len(word)]) != word {
		return bad
	}
	return i + len(word)
}

// Strings are scanned by words of eight bytes, the first byte the lowest.
const (
	each = 0x0101010101010101
	high = 0x8080808080808080
)

func load(raw []byte, i int) uint64 { return binary.LittleEndian.Uint64(raw[i:]) }

// special tells which byte of a word is the first that is a quote, a backslash,
// a control character or not ASCII: the lowest bit that is set is the highest of
// that byte. The bits above mean nothing. It is 0 if there is no such byte.
func special(word uint64) uint64 {
	// The first turns a quote, 0x22, into a space, and 0x20 and 0x21 into more. A
	// byte that is not ASCII keeps its highest bit in one of the two.
	quoteOrControl := word ^ 0x02*each - 0x21*each
	backslash := word ^ '\\'*each - each
	return (quoteOrControl | backslash) & high
}

// upTo returns how many bytes there are up to and with the first special one.
// That is bits.TrailingZeros64(m)/8+1, which is slower on amd64.
func upTo(m uint64) int { return int((m - 1) & each * each >> 56) }

// below masks the bytes below the first special one.
func below(m uint64) uint64 { return m&-m>>7 - 1 }
