package event

import (
	"strconv"
	"unsafe"
)

// powers of ten that a float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// parseNumber returns the float that is nearest to a JSON number; it is infinite
// if the number is beyond all of them.
func parseNumber(s []byte) float64 {
	if f, ok := parseExact(s); ok {
		return f
	}
	f, _ := strconv.ParseFloat(asString(s), 64) // the only error is that f is infinite
	return f
}

// parseExact is parseNumber for the usual numbers. If the digits and the power
// of ten are both exact as floats, one operation on them is rounded once, and so
// as it should be.
func parseExact(s []byte) (f float64, ok bool) {
	digits, exp, i, negative := uint64(0), 0, 0, s[0] == '-'
	if negative {
		i = 1
	}
	point := len(s)
	for ; i < len(s) && s[i]|0x20 != 'e'; i++ {
		if s[i] == '.' {
			point = i + 1
			continue
		}
		if digits = digits*10 + uint64(s[i]-'0'); digits >= 1e15 {
			return 0, false
		}
	}
	if point < i {
		exp = point - i
	}
	if i < len(s) {
		e, ok := parseExponent(s[i+1:])
		if !ok {
			return 0, false
		}
		exp += e
	}
	f = float64(digits)
	switch {
	case exp < -22 || exp > 22:
		return 0, false
	case exp < 0:
		f /= powers[-exp]
	default:
		f *= powers[exp]
	}
	if negative {
		f = -f
	}
	return f, true
}

// parseExponent returns an exponent of up to three digits.
func parseExponent(s []byte) (e int, ok bool) {
	negative := s[0] == '-'
	if negative || s[0] == '+' {
		s = s[1:]
	}
	if len(s) > 3 {
		return 0, false
	}
	for _, c := range s {
		e = e*10 + int(c-'0')
	}
	if negative {
		e = -e
	}
	return e, true
}

// asString returns b as a string without a copy, for functions that keep none of
// it. strconv and time copy what they put into errors.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
