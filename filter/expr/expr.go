// Package expr translates expressions in CEL (https://cel.dev) into the
// conditions of package filter, so that a filter that was written as an
// expression is indexed like all others. No CEL program ever runs: cel-go
// parses and checks, this package translates.
//
// An attribute is a name (amount), with its path selected (user.address.city).
// The same attributes are also in the map event (event.amount), for names that
// are no CEL identifiers (event["odd name"], event.package). An attribute that
// is itself called event is event.event. Attributes have no declared types.
//
// Translated are ==, !=, <, <=, >, >=, in, !, &&, ||, has, startsWith, endsWith,
// contains, an attribute alone (it is true), and timestamp("…"), where each
// comparison is of one attribute with constants. Everything else is refused
// with its position.
//
// An event matches if and only if CEL would evaluate the expression to true over
// it. As in CEL, an attribute that is missing or of a type that can't be
// compared is an error, which makes neither a condition nor its negation true;
// && and || need not know a side that can't change their result. It differs from
// CEL where the attributes of package filter do:
//
//   - An array stands for its elements: a == "x" also holds for an array with
//     "x" in it, and "x" in a for the string "x".
//   - A comparison with a timestamp reads strings as RFC 3339 timestamps, so
//     at >= timestamp("…") is short for timestamp(at) >= timestamp("…").
//   - Numbers are 64-bit floats. Integers that have none of their own are refused.
package expr

import "eventstream/filter"

// Translate returns the alternatives of which at least one must hold for the
// expression src to be true. There are from 1 to filter.MaxAlternatives, none of
// them is empty. The error is a *filter.SyntaxError.
func Translate(src string) ([]filter.Where, error) {
	root, t, err := parse(src)
	if err != nil {
		return nil, err
	}
	f, err := t.condition(root, true)
	if err != nil {
		return nil, err
	}
	switch {
	case f.is(all):
		return nil, t.errorf(root, "it is true of every event; to subscribe to all, leave it out and set match_all")
	case f.is(some):
		return nil, t.errorf(root, "it is true of no event")
	}
	return t.alternatives(f, root)
}
