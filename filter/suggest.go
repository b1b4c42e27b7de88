package filter

import "strings"

// The names in the JSON of a Spec, as messages list them.
const (
	fieldNames     = "subscriber_id, event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any, expr, match_all"
	conditionNames = "event_types, user_tiers, user_ids, countries, min_amount, max_amount, where, any or expr"
	operatorNames  = "eq, ne, in, not_in, gt, gte, lt, lte, between, prefix, suffix, contains, exists"
)

// Names that people write for an operator. Typing errors are found by distance.
var operatorAliases = map[string]string{
	"=": "eq", "==": "eq", "===": "eq", "equals": "eq", "equal": "eq", "is": "eq", "equal_to": "eq",
	"!=": "ne", "<>": "ne", "neq": "ne", "not": "ne", "not_equal": "ne", "not_equals": "ne", "is_not": "ne",
	"any_of": "in", "anyof": "in", "one_of": "in", "oneof": "in", "is_in": "in", "values": "in", "or": "in",
	"nin": "not_in", "none_of": "not_in", "not_any_of": "not_in", "!in": "not_in",
	">": "gt", "greater": "gt", "greater_than": "gt", "above": "gt", "after": "gt", "more_than": "gt",
	">=": "gte", "ge": "gte", "min": "gte", "from": "gte", "at_least": "gte", "since": "gte",
	"<": "lt", "less": "lt", "less_than": "lt", "below": "lt", "before": "lt",
	"<=": "lte", "le": "lte", "max": "lte", "to": "lte", "at_most": "lte", "until": "lte",
	"range": "between", "within": "between",
	"starts_with": "prefix", "startswith": "prefix", "begins_with": "prefix", "starts": "prefix",
	"ends_with": "suffix", "endswith": "suffix", "ends": "suffix",
	"includes": "contains", "has": "contains", "substring": "contains", "like": "contains", "match": "contains",
	"present": "exists", "defined": "exists", "is_set": "exists", "exist": "exists",
}

var fieldAliases = map[string]string{
	"subscriber": "subscriber_id", "type": "event_types", "types": "event_types",
	"tier": "user_tiers", "tiers": "user_tiers", "user": "user_ids", "users": "user_ids", "country": "countries",
	"min": "min_amount", "max": "max_amount", "amount": "min_amount",
	"filter": "where", "filters": "where", "conditions": "where", "all": "where", "and": "where", "all_of": "where",
	"or": "any", "any_of": "any", "one_of": "any", "alternatives": "any",
	"cel": "expr", "expression": "expr", "query": "expr", "all_events": "match_all",
}

// didYouMean returns "; did you mean …?" for a name that is not in names, a list with
// commas, or "" if no name is close to it.
func didYouMean(name, names string, aliases map[string]string) string {
	name = strings.ToLower(cut(name, MaxPathBytes))
	best, least := aliases[name], 3
	for known := range strings.SplitSeq(names, ", ") {
		d := distance(name, known)
		if aliases[name] == "" && d < least && 2*d <= len(name) {
			best, least = known, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
