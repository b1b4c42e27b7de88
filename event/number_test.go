package event

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
)

// Every number of a format must be the float that is nearest to it.
func TestParseNumber(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	digits := func(n int) string {
		var s []byte
		for range n {
			s = append(s, byte('0'+r.IntN(10)))
		}
		return string(s)
	}
	for range 50_000 {
		s := strconv.Itoa(r.IntN(10)) // one digit, and more if it is no zero
		if s != "0" {
			s += digits(r.IntN(18))
		}
		if r.IntN(2) == 0 {
			s += "." + digits(1+r.IntN(18))
		}
		if r.IntN(2) == 0 {
			s += []string{"e", "E", "e-", "e+"}[r.IntN(4)] + digits(1+r.IntN(3))
		}
		if r.IntN(2) == 0 {
			s = "-" + s
		}
		want, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			t.Fatal(err)
		}
		if got := parseNumber([]byte(s)); got != want {
			t.Fatalf("parseNumber(%s) = %v, want %v", s, got, want)
		}
	}
}
