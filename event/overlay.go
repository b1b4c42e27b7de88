package event

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"
)

// Overlay returns an event, as encoding/json decodes it with json.Number, with its names
// where filters look for them. It is DecodeMapped for who looks at single events, and the
// definition that this is tested against: slow, and as simple as can be. ev stays as it is.
func (m *Mapping) Overlay(ev map[string]any, outside [][]byte) map[string]any {
	if m == nil {
		return ev
	}
	out := maps.Clone(ev)
	place := 0
	for _, f := range m.fields {
		delete(out, f.Name)
		var values []any
		if f.Path != nil {
			values = valuesAt(ev, f.Path)
		} else if place++; place <= len(outside) && outside[place-1] != nil {
			values = []any{string(outside[place-1])}
		}
		for i, v := range values {
			values[i] = f.As.turn(v)
		}
		switch len(values) {
		case 0:
		case 1:
			out[f.Name] = values[0]
		default:
			out[f.Name] = values
		}
	}
	return out
}

// valuesAt returns what is at a path. An array on it stands for its elements.
func valuesAt(v any, path Path) (values []any) {
	if elements, ok := v.([]any); ok && len(path) > 0 {
		for _, e := range elements {
			values = append(values, valuesAt(e, path)...)
		}
		return values
	}
	if len(path) == 0 {
		return []any{v}
	}
	object, _ := v.(map[string]any)
	child, ok := object[path[0]]
	if !ok {
		return nil
	}
	return valuesAt(child, path[1:])
}

// turn makes a value, or the elements of an array, what they are to be.
func (as As) turn(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = as.turn(e)
		}
		return out
	case bool:
		if as == AsString {
			return strconv.FormatBool(v)
		}
	case string:
		if !isNumber([]byte(v)) {
			return v
		}
		if as == AsNumber {
			return json.Number(v)
		}
		return as.turnNumber(v, v)
	case json.Number:
		if as == AsString {
			return string(v)
		}
		return as.turnNumber(string(v), v)
	}
	return v
}

func (as As) turnNumber(text string, otherwise any) any {
	if as >= AsUnix {
		if t, ok := unixTime([]byte(text), as); ok {
			return t.Format(time.RFC3339Nano)
		}
	}
	return otherwise
}
