package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestValidate covers what JSON can't express, and what is too long to read in
// testdata/corners.txt.
func TestValidate(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	test := func(t Test) Spec { return Spec{SubscriberID: "a", Where: Where{"x": t}} }
	with := func(change func(*Spec)) Spec {
		s := Spec{SubscriberID: "a", EventTypes: []string{"t"}}
		change(&s)
		return s
	}
	one := []Where{{"a": {Eq: new(Num(1))}}}
	for _, tt := range []struct {
		spec Spec
		want string
	}{
		{Spec{SubscriberID: "a", MinAmount: &inf}, "/min_amount: want a finite number"},
		{Spec{SubscriberID: "a", MaxAmount: &nan}, "/max_amount: want a finite number"},
		{Spec{SubscriberID: "\xff", MatchAll: true}, "/subscriber_id: not valid UTF-8"},
		{Spec{SubscriberID: "a", EventTypes: []string{"\xff"}}, "/event_types/0: not valid UTF-8"},
		{Spec{SubscriberID: "a", UserIDs: []string{}}, "/user_ids: an empty list matches nothing; leave the field out to match any value"},
		{test(Test{}), "/where/x: {} has no condition; allowed are " + operatorNames},
		{test(Test{Eq: new(Num(nan))}), "/where/x/eq: want a finite number"},
		{test(Test{In: []Scalar{Num(nan), Num(nan), {}}}), "/where/x/in/0: want a finite number; /where/x/in/1: want a finite number; /where/x/in/2: want a string, a number or a boolean"},
		{test(Test{Lt: &Scalar{}, Gt: new(Num(-inf))}), "/where/x/gt: want a finite number; /where/x/lt: want a string, a number or a boolean"},
		{test(Test{Ne: new(Text("\xff")), In: []Scalar{}}), "/where/x/ne: not valid UTF-8; /where/x/in: an empty list matches nothing; leave it out to match any value"},
		{test(Test{In: make([]Scalar, 10001)}), "/where/x/in: 10001 values; at most 10000 are allowed"},
		{Spec{SubscriberID: "a", Where: Where{"\xff": {Eq: new(Num(1))}}}, "/where/\xff: not valid UTF-8"},
		{
			Spec{SubscriberID: "a", Where: Where{strings.Repeat("\x80", 300): {Eq: new(Num(1))}}},
			"/where/…: a path of 300 bytes; at most 256 are allowed",
		},
		{Spec{SubscriberID: "a", Where: Where{"x\x00": {Eq: new(Num(1))}}}, "/where/x\x00: the character U+0000 is not allowed"},
		{with(func(s *Spec) { s.Expr, s.ExprAny = "\x00", one }), "/expr: the character U+0000 is not allowed"},
		{with(func(s *Spec) { s.Where = Where{} }), "/where: {} has no condition; name an attribute, such as " + whereExample},
		{with(func(s *Spec) { s.Any = []Where{} }), "/any: an empty list matches nothing; leave the field out if there are no alternatives"},
		{with(func(s *Spec) { s.Any = []Where{nil} }), "/any/0: {} has no condition; name an attribute, such as " + whereExample},
		{with(func(s *Spec) { s.Expr = "x" }), "/expr: has not been translated into conditions, or can never hold"},
		{with(func(s *Spec) { s.ExprAny = one }), "/expr_any: is made from expr, and there is none"},
		{with(func(s *Spec) { s.Expr, s.ExprAny = "\xff", one }), "/expr: not valid UTF-8"},
		{with(func(s *Spec) { s.Expr, s.ExprAny = "x", []Where{{"a": {}}} }), "/expr: a: {} has no condition; allowed are " + operatorNames},
		{with(func(s *Spec) { s.Expr, s.ExprAny = "x", []Where{{"a": {Between: []Scalar{{}}}}} }), "/expr: a, between: want two values, from and to, got a list of 1"},
		{with(func(s *Spec) { s.UserIDs = manyTexts(9999) }), ""},
		{with(func(s *Spec) { s.UserIDs = manyTexts(10000) }), "10001 values in all lists together; at most 10000 are allowed"},
		{with(func(s *Spec) { s.Any = manyWheres(16) }), ""},
		{with(func(s *Spec) { s.Any = manyWheres(17) }), "/any: 17 alternatives; at most 16 are allowed"},
		{with(func(s *Spec) { s.Expr, s.ExprAny = "x", manyWheres(17) }), "/expr: comes to 17 alternatives; at most 16 are allowed"},
		{with(func(s *Spec) { s.Where = manyTests(15) }), ""},
		{with(func(s *Spec) { s.Where = manyTests(16) }), "/where: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
		{with(func(s *Spec) { s.Any, s.Where = []Where{manyTests(8)}, manyTests(8) }), "/any/0: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
		{with(func(s *Spec) { s.Expr, s.ExprAny, s.Where = "x", []Where{manyTests(8)}, manyTests(8) }), "/expr: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
	} {
		if err := tt.spec.Validate(); err == nil && tt.want != "" || err != nil && err.Error() != tt.want {
			t.Errorf("Validate(%.200s) = %v, want %s", fmt.Sprintf("%+v", tt.spec), err, tt.want)
		}
	}
}

func manyTexts(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("u", i)
	}
	return list
}

func manyWheres(n int) []Where {
	list := make([]Where, n)
	for i := range list {
		list[i] = Where{"a": {Eq: new(Num(float64(i)))}}
	}
	return list
}

func manyTests(n int) Where {
	w := Where{}
	for i := range n {
		w[fmt.Sprint("a", i)] = Test{Eq: new(Num(1))}
	}
	return w
}

// TestRefusedSpecsNeverMatch checks the reasons for which Validate says that
// nothing can match: whatever the event, it is so.
func TestRefusedSpecsNeverMatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	refused := 0
	for range 2000 {
		s := Spec{SubscriberID: "a", Where: randomWhere(rng), MatchAll: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			s.Any = []Where{randomWhere(rng)}
		}
		bad, ok := errors.AsType[*Invalid](s.Validate())
		if !ok || !(strings.Contains(bad.Error(), "empty: ") || strings.Contains(bad.Error(), "excluded by") ||
			strings.Contains(bad.Error(), "excludes all") || strings.Contains(bad.Error(), "is missing")) {
			continue
		}
		refused++
		for range 10 {
			raw := randomEventJSON(rng)
			ev, err := DecodeEvent(raw)
			if err != nil {
				t.Fatal(err)
			}
			if s.Match(ev) {
				b, _ := json.Marshal(s)
				t.Fatalf("%s is refused (%v) and matches %s", b, bad, raw)
			}
		}
	}
	if refused < 20 {
		t.Errorf("only %d were refused", refused)
	}
}
