// Package filtertest makes what tests of filters need: random filters and events that
// often meet, and the cases of filter/testdata/corners.txt.
package filtertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"eventstream/filter"
)

// What random Specs and events are made of: so little that they often meet.
var (
	Paths = []string{
		"event_type", "user_tier", "user_id", "country", "amount", "a", "a.b", "a.b.c", "items.sku", "items.n", "tags", "at", `x\.y`,
	}
	someTexts = []string{"a", "b", "ab", "abc", "ba", "c", "", "1", "true", "DE", "é", "e\u0301", "\ufffd", "a longer text than most are, by far"}
	someTimes = []string{
		"2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.5Z", "2026-01-02T03:04:04.999999999Z",
		"2027-06-01T00:00:00-08:00", "1700-01-01T00:00:00Z",
	}
	someNumbers = []float64{0, 1, -1, 2, 2.5, 10, 100, 0.1, 0.3, 0.30000000000000004, 1 << 53, 1e300, -1e300, 5e-324}
	// Forms of numbers that encoding/json does not write, and some that come to the same.
	oddNumbers = []string{"-0", "0.0", "1.0", "1e0", "10e-1", "9007199254740993", "1e999", "-1e999", "1e-999", "0.30000000000000004", "2.50", "1E2"}
	// Strings that are almost timestamps.
	oddTimes = []string{"2026-01-02", "2026-02-30T00:00:00Z", "2026-01-02T03:04:60Z", "2026-01-02T03:04:05", "9999-01-01T00:00:00Z", "0000-01-01T00:00:00Z"}
)

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// Spec returns a valid Spec; all operators come up, and all fields.
func Spec(rng *rand.Rand) filter.Spec {
	for {
		s := filter.Spec{SubscriberID: fmt.Sprintf("user_%d", rng.IntN(100))}
		if rng.IntN(4) == 0 {
			randomShort(rng, &s)
		}
		if rng.IntN(4) > 0 {
			s.Where = Where(rng)
		}
		if rng.IntN(4) == 0 {
			s.Any = randomWheres(rng)
		}
		if rng.IntN(8) == 0 {
			s.Expr, s.ExprAny = "made up", randomWheres(rng)
		}
		s.MatchAll = rng.IntN(8) == 0
		if s.Validate() == nil {
			return s
		}
	}
}

func randomShort(rng *rand.Rand, s *filter.Spec) {
	for _, list := range []*[]string{&s.EventTypes, &s.UserTiers, &s.UserIDs, &s.Countries} {
		if rng.IntN(3) == 0 {
			for _, i := range rng.Perm(5)[:1+rng.IntN(3)] {
				*list = append(*list, someTexts[i])
			}
		}
	}
	if rng.IntN(3) == 0 {
		s.MinAmount = new(pick(rng, someNumbers))
	}
	if rng.IntN(3) == 0 {
		s.MaxAmount = new(pick(rng, someNumbers))
	}
}

func randomWheres(rng *rand.Rand) []filter.Where {
	list := make([]filter.Where, 1+rng.IntN(3))
	for i := range list {
		list[i] = Where(rng)
	}
	return list
}

func Where(rng *rand.Rand) filter.Where {
	w := filter.Where{}
	for range 1 + rng.IntN(2) {
		path := pick(rng, Paths)
		w[path] = randomTest(rng, path)
	}
	return w
}

func randomTest(rng *rand.Rand, path string) filter.Test {
	var t filter.Test
	for range 1 + rng.IntN(5)/4 {
		switch rng.IntN(10) {
		case 0, 1:
			t.Eq = new(randomScalar(rng, path))
		case 2:
			t.Ne = new(randomScalar(rng, path))
		case 3:
			t.In = randomScalars(rng, path)
		case 4:
			t.NotIn = randomScalars(rng, path)
		case 5, 6:
			randomInterval(rng, path, &t)
		case 7:
			t.Prefix = new(pick(rng, someTexts))
		case 8:
			part := &t.Suffix
			if rng.IntN(2) == 0 {
				part = &t.Contains
			}
			*part = new(pick(rng, someTexts))
		case 9:
			t.Exists = new(rng.IntN(3) > 0)
		}
	}
	return t
}

func randomInterval(rng *rand.Rand, path string, t *filter.Test) {
	end := func() *filter.Scalar { return new(filter.Num(pick(rng, someNumbers))) }
	if path == "at" || rng.IntN(10) == 0 {
		end = func() *filter.Scalar { return new(filter.Text(pick(rng, someTimes))) }
	}
	switch rng.IntN(4) {
	case 0:
		t.Between = []filter.Scalar{*end(), *end()}
	case 1:
		t.Gt = end()
	case 2:
		t.Gte = end()
	}
	switch rng.IntN(3) {
	case 0:
		t.Lt = end()
	case 1:
		t.Lte = end()
	}
}

func randomScalars(rng *rand.Rand, path string) []filter.Scalar {
	n := 1 + rng.IntN(4)
	if rng.IntN(10) == 0 {
		n = 30
	}
	var list []filter.Scalar
	for range n {
		v := randomScalar(rng, path)
		if n == 30 && rng.IntN(2) == 0 {
			v = filter.Num(float64(rng.IntN(1000)))
		}
		if !contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

func contains(list []filter.Scalar, v filter.Scalar) bool {
	for _, w := range list {
		if v == w {
			return true
		}
	}
	return false
}

// randomScalar returns a value that fits the path more often than not.
func randomScalar(rng *rand.Rand, path string) filter.Scalar {
	switch n := rng.IntN(10); {
	case n == 0:
		return filter.Flag(rng.IntN(2) == 0)
	case path == "at" && n > 2, n == 1:
		return filter.Text(pick(rng, someTimes))
	case (path == "amount" || path == "items.n") && n > 2, n == 2:
		return filter.Num(pick(rng, someNumbers))
	}
	return filter.Text(pick(rng, someTexts[:rng.IntN(len(someTexts))+1]))
}

// Event returns an event that event.Decoder takes, with a value for
// most of the attributes that random Specs ask for.
func Event(rng *rand.Rand) []byte {
	var b bytes.Buffer
	b.WriteString("{")
	if rng.IntN(10) == 0 {
		b.WriteString(`"event_type":` + randomJSON(rng, 0) + `,`) // does not count
	}
	for _, name := range []string{"user_tier", "user_id", "country", "amount", "a", "items", "tags", "at", "x.y", "unknown"} {
		for rng.IntN(10) < 6 { // now and then twice
			writeMember(&b, rng, name)
			if rng.IntN(4) > 0 {
				break
			}
		}
	}
	fmt.Fprintf(&b, `"event_type":%s}`, quoteJSON(rng, pick(rng, someTexts[:6])))
	return b.Bytes()
}

func writeMember(b *bytes.Buffer, rng *rand.Rand, name string) {
	fmt.Fprintf(b, "%s:%s,", quoteJSON(rng, name), randomValue(rng, name))
}

// randomValue returns a value that fits the name more often than not.
func randomValue(rng *rand.Rand, name string) string {
	switch n := rng.IntN(10); {
	case n == 0:
		return randomJSON(rng, 0)
	case n <= 2:
		return "[" + randomValue(rng, name) + "," + randomValue(rng, name) + "]"
	}
	switch name {
	case "amount", "n":
		return randomNumber(rng)
	case "a":
		if rng.IntN(2) == 0 {
			return randomObject(rng, "b", "x")
		}
	case "b":
		if rng.IntN(3) == 0 {
			return randomObject(rng, "c")
		}
	case "items":
		return randomObject(rng, "sku", "n")
	case "at":
		return quoteJSON(rng, pick(rng, append(oddTimes, someTimes...)))
	case "c", "x.y":
		return randomJSON(rng, 2)
	}
	return quoteJSON(rng, pick(rng, someTexts[:rng.IntN(len(someTexts))+1]))
}

func randomObject(rng *rand.Rand, names ...string) string {
	var b bytes.Buffer
	for _, name := range names {
		for rng.IntN(4) > 0 {
			writeMember(&b, rng, name)
			if rng.IntN(6) > 0 {
				break
			}
		}
	}
	return "{" + strings.TrimSuffix(b.String(), ",") + "}"
}

// randomJSON returns any value.
func randomJSON(rng *rand.Rand, depth int) string {
	switch n := rng.IntN(12); {
	case n < 3:
		return quoteJSON(rng, pick(rng, someTexts))
	case n < 5:
		return randomNumber(rng)
	case n < 7:
		return pick(rng, []string{"true", "false", "null"})
	case n < 8:
		return pick(rng, []string{"[]", "{}", "[[]]", "[{}]", "[null]"})
	case depth > 2:
		return "0"
	case n < 10:
		return "[" + randomJSON(rng, depth+1) + "," + randomJSON(rng, depth+1) + "]"
	}
	return randomObject(rng, "b", "c")
}

func randomNumber(rng *rand.Rand) string {
	if rng.IntN(3) == 0 {
		return pick(rng, oddNumbers)
	}
	return toJSON(pick(rng, someNumbers))
}

// quoteJSON writes a string, at times with an escape that it doesn't need.
func quoteJSON(rng *rand.Rand, s string) string {
	if s == "\ufffd" && rng.IntN(2) == 0 {
		return `"\ud800"`
	}
	if s != "" && s[0] < 0x80 && rng.IntN(6) == 0 {
		return fmt.Sprintf(`"\u%04x%s`, s[0], toJSON(s[1:])[1:])
	}
	return toJSON(s)
}

// toJSON writes a string or a finite number as encoding/json does.
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Stored returns the JSON of s as a store keeps it.
func Stored(t testing.TB, s filter.Spec) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Numbered returns piece n times, with commas between, and each # replaced by a number.
func Numbered(n int, piece string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(piece, "#", fmt.Sprint(i))
	}
	return strings.Join(all, ",")
}
