package filter

import (
	"strings"

	"eventstream/event"
)

// ParsePath splits the path of an attribute at its dots: "user.address.city" is
// city in address in user. A dot or a backslash that belongs to a name is
// written after a backslash. It returns false for a path with an empty name or
// another use of the backslash.
func ParsePath(s string) (event.Path, bool) {
	var path event.Path
	var name strings.Builder
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '.':
			if name.Len() == 0 {
				return nil, false
			}
			path = append(path, name.String())
			name.Reset()
		case s[i] == '\\':
			if i++; i == len(s) || s[i] != '.' && s[i] != '\\' {
				return nil, false
			}
			name.WriteByte(s[i])
		default:
			name.WriteByte(s[i])
		}
	}
	return path, true
}

var pathEscaper = strings.NewReplacer(`\`, `\\`, `.`, `\.`)

// FormatPath is the inverse of ParsePath.
func FormatPath(p event.Path) string {
	names := make([]string, len(p))
	for i, n := range p {
		names[i] = pathEscaper.Replace(n)
	}
	return strings.Join(names, ".")
}
