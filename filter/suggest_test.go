package filter

import (
	"strings"
	"testing"
)

func TestDidYouMean(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"EQ", "eq"}, {"eqq", "eq"}, {"==", "eq"}, {"Starts_With", "prefix"}, {"prefx", "prefix"}, {"sufix", "suffix"},
		{"contain", "contains"}, {"betwen", "between"}, {"notin", "not_in"}, {"not-in", "not_in"}, {"nin", "not_in"},
		{"lt ", "lt"}, {"x", ""}, {"xx", ""}, {"", ""}, {"regex", ""}, {"sku", ""}, {strings.Repeat("é", 10000), ""},
	} {
		want := tt.want
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := didYouMean(tt.name, operatorNames, operatorAliases); got != want {
			t.Errorf("didYouMean(%.20q) = %q, want %q", tt.name, got, want)
		}
	}
	for alias, name := range operatorAliases {
		if !strings.Contains(", "+operatorNames+",", ", "+name+",") {
			t.Errorf("%s stands for %s, which is no operator", alias, name)
		}
	}
	for alias, name := range fieldAliases {
		if !strings.Contains(", "+fieldNames+",", ", "+name+",") {
			t.Errorf("%s stands for %s, which is no field", alias, name)
		}
	}
}
