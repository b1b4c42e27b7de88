package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"eventstream/filter"
	"eventstream/filter/filtertest"
)

// TestValidate covers what JSON can't express, and what is too long to read in
// testdata/corners.txt.
func TestValidate(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	test := func(t filter.Test) filter.Spec { return filter.Spec{SubscriberID: "a", Where: filter.Where{"x": t}} }
	with := func(change func(*filter.Spec)) filter.Spec {
		s := filter.Spec{SubscriberID: "a", EventTypes: []string{"t"}}
		change(&s)
		return s
	}
	one := []filter.Where{{"a": {Eq: new(filter.Num(1))}}}
	for _, tt := range []struct {
		spec filter.Spec
		want string
	}{
		{filter.Spec{SubscriberID: "a", MinAmount: &inf}, "/min_amount: want a finite number"},
		{filter.Spec{SubscriberID: "a", MaxAmount: &nan}, "/max_amount: want a finite number"},
		{filter.Spec{SubscriberID: "\xff", MatchAll: true}, "/subscriber_id: not valid UTF-8"},
		{filter.Spec{SubscriberID: "a", EventTypes: []string{"\xff"}}, "/event_types/0: not valid UTF-8"},
		{filter.Spec{SubscriberID: "a", UserIDs: []string{}}, "/user_ids: an empty list matches nothing; leave the field out to match any value"},
		{test(filter.Test{}), "/where/x: {} has no condition; allowed are " + filter.OperatorNames},
		{test(filter.Test{Eq: new(filter.Num(nan))}), "/where/x/eq: want a finite number"},
		{test(filter.Test{In: []filter.Scalar{filter.Num(nan), filter.Num(nan), {}}}), "/where/x/in/0: want a finite number; /where/x/in/1: want a finite number; /where/x/in/2: want a string, a number or a boolean"},
		{test(filter.Test{Lt: &filter.Scalar{}, Gt: new(filter.Num(-inf))}), "/where/x/gt: want a finite number; /where/x/lt: want a string, a number or a boolean"},
		{test(filter.Test{Ne: new(filter.Text("\xff")), In: []filter.Scalar{}}), "/where/x/ne: not valid UTF-8; /where/x/in: an empty list matches nothing; leave it out to match any value"},
		{test(filter.Test{In: make([]filter.Scalar, 10001)}), "/where/x/in: 10001 values; at most 10000 are allowed"},
		{filter.Spec{SubscriberID: "a", Where: filter.Where{"\xff": {Eq: new(filter.Num(1))}}}, "/where/\xff: not valid UTF-8"},
		{
			filter.Spec{SubscriberID: "a", Where: filter.Where{strings.Repeat("\x80", 300): {Eq: new(filter.Num(1))}}},
			"/where/…: a path of 300 bytes; at most 256 are allowed",
		},
		{filter.Spec{SubscriberID: "a", Where: filter.Where{"x\x00": {Eq: new(filter.Num(1))}}}, "/where/x\x00: the character U+0000 is not allowed"},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny = "\x00", one }), "/expr: the character U+0000 is not allowed"},
		{with(func(s *filter.Spec) { s.Where = filter.Where{} }), "/where: {} has no condition; name an attribute, such as " + filter.WhereExample},
		{with(func(s *filter.Spec) { s.Any = []filter.Where{} }), "/any: an empty list matches nothing; leave the field out if there are no alternatives"},
		{with(func(s *filter.Spec) { s.Any = []filter.Where{nil} }), "/any/0: {} has no condition; name an attribute, such as " + filter.WhereExample},
		{with(func(s *filter.Spec) { s.Expr = "x" }), "/expr: has not been translated into conditions, or can never hold"},
		{with(func(s *filter.Spec) { s.ExprAny = one }), "/expr_any: is made from expr, and there is none"},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny = "\xff", one }), "/expr: not valid UTF-8"},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny = "x", []filter.Where{{"a": {}}} }), "/expr: a: {} has no condition; allowed are " + filter.OperatorNames},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny = "x", []filter.Where{{"a": {Between: []filter.Scalar{{}}}}} }), "/expr: a, between: want two values, from and to, got a list of 1"},
		{with(func(s *filter.Spec) { s.UserIDs = manyTexts(9999) }), ""},
		{with(func(s *filter.Spec) { s.UserIDs = manyTexts(10000) }), "10001 values in all lists together; at most 10000 are allowed"},
		{with(func(s *filter.Spec) { s.Any = manyWheres(16) }), ""},
		{with(func(s *filter.Spec) { s.Any = manyWheres(17) }), "/any: 17 alternatives; at most 16 are allowed"},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny = "x", manyWheres(17) }), "/expr: comes to 17 alternatives; at most 16 are allowed"},
		{with(func(s *filter.Spec) { s.Where = manyTests(15) }), ""},
		{with(func(s *filter.Spec) { s.Where = manyTests(16) }), "/where: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
		{with(func(s *filter.Spec) { s.Any, s.Where = []filter.Where{manyTests(8)}, manyTests(8) }), "/any/0: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
		{with(func(s *filter.Spec) { s.Expr, s.ExprAny, s.Where = "x", []filter.Where{manyTests(8)}, manyTests(8) }), "/expr: 17 tests must hold together, with those of the short fields and of where; at most 16 are allowed"},
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

func manyWheres(n int) []filter.Where {
	list := make([]filter.Where, n)
	for i := range list {
		list[i] = filter.Where{"a": {Eq: new(filter.Num(float64(i)))}}
	}
	return list
}

func manyTests(n int) filter.Where {
	w := filter.Where{}
	for i := range n {
		w[fmt.Sprint("a", i)] = filter.Test{Eq: new(filter.Num(1))}
	}
	return w
}

// TestRefusedSpecsNeverMatch checks the reasons for which Validate says that
// nothing can match: whatever the event, it is so.
func TestRefusedSpecsNeverMatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	refused := 0
	for range 2000 {
		s := filter.Spec{SubscriberID: "a", Where: filtertest.Where(rng), MatchAll: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			s.Any = []filter.Where{filtertest.Where(rng)}
		}
		bad, ok := errors.AsType[*filter.Invalid](s.Validate())
		if !ok || !(strings.Contains(bad.Error(), "empty: ") || strings.Contains(bad.Error(), "excluded by") ||
			strings.Contains(bad.Error(), "excludes all") || strings.Contains(bad.Error(), "is missing")) {
			continue
		}
		refused++
		for range 10 {
			raw := filtertest.Event(rng)
			ev, err := filter.DecodeEvent(raw)
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
