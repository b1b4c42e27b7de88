package format

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"
)

// plain are the bytes that a JSON string has as they are.
var plain = func() (all [256]bool) {
	for c := range all {
		all[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return all
}()

// appendString appends text as a JSON string. What is not UTF-8 stays: the event's decoder
// refuses it.
func appendString(dst []byte, text []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := plainBytes(text); i < len(text); i++ {
		c := text[i]
		if plain[c] {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

// plainBytes returns how many bytes at the begin of a text are certainly plain. It looks at
// eight at once.
func plainBytes(text []byte) (n int) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(text)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(text[n:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		if ((x-ones*' ')&^x|(quote-ones)&^quote|(slash-ones)&^slash)&highs != 0 {
			break
		}
	}
	return n
}

// quoted is a text as a JSON string.
func quoted(text string) []byte { return appendString(nil, []byte(text)) }

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendFloat appends the shortest number that is f again when it is read. What is no
// number in JSON is a string.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	form := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		form = 'e'
	}
	return strconv.AppendFloat(dst, f, form, -1, bits)
}

// appendDecimal appends unscaled / 10^scale with all its digits. unscaled is in two's
// complement, big endian.
func appendDecimal(dst, unscaled []byte, scale int) []byte {
	start := len(dst)
	if len(unscaled) <= 8 {
		n := int64(0)
		for i, c := range unscaled {
			if i == 0 {
				n = int64(int8(c))
			} else {
				n = n<<8 | int64(c)
			}
		}
		dst = strconv.AppendInt(dst, n, 10)
	} else {
		n := new(big.Int).SetBytes(unscaled)
		if unscaled[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
		}
		dst = n.Append(dst, 10)
	}
	return appendPoint(dst, start, scale)
}

// appendPoint puts a point before the last scale digits of the integer that begins at start.
func appendPoint(dst []byte, start, scale int) []byte {
	if scale == 0 {
		return dst
	}
	if dst[start] == '-' {
		start++
	}
	if missing := scale + 1 - (len(dst) - start); missing > 0 { // at least one digit before it
		dst = slices.Insert(dst, start, bytes.Repeat([]byte{'0'}, missing)...)
	}
	return slices.Insert(dst, len(dst)-scale, '.')
}

// Layouts of what is no instant.
const (
	dateOnly  = "2006-01-02"
	timeOnly  = "15:04:05.999999999"
	localTime = "2006-01-02T15:04:05.999999999"
)

// appendTime appends t as a string. n is in its place if it is not in the years that RFC 3339
// can write.
func appendTime(dst []byte, t time.Time, layout string, n int64) []byte {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return strconv.AppendInt(dst, n, 10)
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, layout)
	return append(dst, '"')
}
