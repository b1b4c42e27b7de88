package expr

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/cel-go/common"

	"eventstream/filter"
)

// syntaxError returns an error at a place, or about the expression as a whole.
func syntaxError(at common.Location, msg string) error {
	e := &filter.SyntaxError{Line: 1, Column: 1, Msg: strings.Map(inLine, msg)}
	if at.Line() > 0 && at.Column() >= 0 {
		e.Line, e.Column = at.Line(), at.Column()+1
	}
	return e
}

// inLine makes spaces of what would break a line.
func inLine(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

var (
	unexpected = regexp.MustCompile(`(?s)^Syntax error: (?:mismatched input|extraneous input|token recognition error at:|no viable alternative at input) (.*)$`)
	overload   = regexp.MustCompile(`^found no matching overload for '(.+)' applied to '(.*)'$`)
	numeral    = regexp.MustCompile(`^invalid (int|uint|double) literal$`)
	reserved   = regexp.MustCompile(`^(?:Syntax error: )?reserved identifier: (\w+)$`)
)

// reword cuts a message of CEL to what it says, and adds what is allowed.
func reword(msg string) string {
	if m := overload.FindStringSubmatch(msg); m != nil {
		op := strings.Trim(m[1], "_@")
		return fmt.Sprintf("%s can't be applied to %s; want %s", op, kindName(m[2]), cmp.Or(operands[op], "other types"))
	}
	if m := unexpected.FindStringSubmatch(msg); m != nil {
		msg, _, _ = strings.Cut(m[1], " expecting ") // a list of half the grammar
		word := strings.TrimSpace(strings.Trim(msg, "'"))
		if right := notCEL[strings.ToLower(word)]; right != "" {
			return fmt.Sprintf("unexpected '%s'; write %s", word, right)
		}
		return "unexpected " + clip(strings.ReplaceAll(msg, "'<EOF>'", "end"), 60) + "; want conditions such as amount >= 100, joined by && and ||"
	}
	if m := reserved.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("%s is a word of CEL; the attribute is %s.%[1]s or %[2]s[%[1]q]", m[1], whole)
	}
	msg = strings.TrimPrefix(msg, "Syntax error: ")
	switch {
	case strings.HasPrefix(msg, "invalid argument to has()"):
		msg += `; want has(user.plan) or has(` + whole + `.amount)`
	case strings.Contains(msg, "recursion"):
		return fmt.Sprintf("nested too deeply; at most %d levels of parentheses and the like are allowed", maxDepth)
	case numeral.MatchString(msg):
		msg += "; want a number that fits 64 bits"
		if !strings.Contains(msg, "double") {
			msg += "; larger ones are written with a point or an exponent, such as 1e19"
		}
	}
	return clip(msg, 200)
}

// notCEL says what to write for words of other languages.
var notCEL = map[string]string{
	"=": "==", "<>": "!=", "and": "&&", "or": "||", "not": `!(country in ["BR"])`, "=~": "startsWith, endsWith or contains",
	".in": whole + `["in"] for an attribute of that name`,
}

// operands says what the operators and functions can be applied to.
var operands = map[string]string{
	"==": "two sides of one type", "!=": "two sides of one type",
	"<": "numbers or timestamps", "<=": "numbers or timestamps", ">": "numbers or timestamps", ">=": "numbers or timestamps",
	"in": "a list of constants of the same type, or an attribute, to its right",
	"&&": "conditions", "||": "conditions", "!": "a condition", "-": "a number",
	"startsWith": "strings", "endsWith": "strings", "contains": "strings",
	"timestamp": `an attribute or an RFC 3339 timestamp, such as timestamp("2026-01-02T03:04:05Z")`,
	"[_]":       `a constant string, such as ` + whole + `["odd name"]`,
}

// kindName shortens the names of types that are of messages to CEL.
func kindName(s string) string {
	return strings.ReplaceAll(s, "google.protobuf.Timestamp", "timestamp")
}

// clip returns the beginning of s, of at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
