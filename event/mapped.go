package event

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// DecodeMapped is Decode by a Mapping. outside has a value for each field that is outside
// the JSON, nil where there is none; it belongs to the Event as raw does.
func (d *Decoder) DecodeMapped(raw []byte, paths *Paths, m *Mapping, outside [][]byte) (*Event, error) {
	if m == nil {
		return d.Decode(raw, paths)
	}
	if paths == nil {
		paths = onlyType
	}
	paths = m.on(paths)
	d.begin(raw, paths)
	if err := d.scan(); err != nil {
		return nil, err
	}
	d.link()
	for _, c := range paths.moved.copies {
		d.copy(c)
	}
	for _, g := range paths.moved.given {
		if g.place < len(outside) && outside[g.place] != nil {
			d.give(g.attr, outside[g.place])
		}
	}
	for _, t := range paths.moved.turned {
		d.turn(t)
	}
	e := &d.ev
	first := e.First(TypeAttr)
	if first == nil || first.Kind != String || len(first.Text) == 0 || first.next != 0 {
		return nil, paths.moved.noType
	}
	e.Type = first.Text
	return e, nil
}

// copy gives an attribute the values of another one.
func (d *Decoder) copy(c copied) {
	e := &d.ev
	for i, last := e.first[c.from], int32(0); i != 0; i = e.values[i-1].next {
		v := e.values[i-1]
		v.attr, v.next = c.to, 0
		e.values = append(e.values, v)
		here := int32(len(e.values))
		if last == 0 {
			e.first[c.to] = here
			e.attrs = append(e.attrs, c.to)
		} else {
			e.values[last-1].next = here
		}
		last = here
	}
}

// give gives an attribute one string.
func (d *Decoder) give(a Attr, text []byte) {
	e := &d.ev
	e.values = append(e.values, Value{Kind: String, Text: text, attr: a, size: int32(len(text)) + 1})
	e.first[a] = int32(len(e.values))
	e.attrs = append(e.attrs, a)
}

// turn makes the values of an attribute what they are to be.
func (d *Decoder) turn(t turned) {
	e := &d.ev
	size := int32(0)
	for i := e.first[t.attr]; i != 0; i = e.values[i-1].next {
		v := &e.values[i-1]
		d.turnOne(v, t.as)
		size += int32(len(v.Text)) + 1
	}
	for i := e.first[t.attr]; i != 0; i = e.values[i-1].next {
		v := &e.values[i-1]
		v.size = size
		size -= int32(len(v.Text)) + 1
	}
}

func (d *Decoder) turnOne(v *Value, as As) {
	numeric := v.Kind == Number || v.Kind == String && isNumber(v.Text)
	switch {
	case as == AsString && v.Kind == Number:
		v.Kind, v.Key = String, 0
	case as == AsString && v.Kind == Bool:
		v.Kind, v.Text, v.Key = String, boolTexts[v.Key], 0
	case as == AsNumber && numeric && v.Kind == String:
		v.Kind, v.Key = Number, NumberKey(parseNumber(v.Text))
	case as >= AsUnix && numeric:
		if t, ok := unixTime(v.Text, as); ok {
			start := len(d.unescaped)
			d.unescaped = t.AppendFormat(d.unescaped, time.RFC3339Nano)
			v.Kind, v.Key, v.Text = String, 0, slices.Clip(d.unescaped[start:])
		}
	}
	if v.Kind == Number {
		v.Text = nil
	}
}

var boolTexts = [...][]byte{[]byte("false"), []byte("true")}

// isNumber reports whether text is a JSON number.
func isNumber(text []byte) bool { return len(text) > 0 && skipNumber(text, 0) == len(text) }

// unixTime returns the time of a number since 1970, in UTC, if it is one that has a TimeKey
// of its own. What is below a microsecond of a fraction may be lost.
func unixTime(number []byte, as As) (t time.Time, ok bool) {
	unit := [...]int64{AsUnix: 1, AsUnixMilli: 1e3, AsUnixMicro: 1e6}[as]
	if n, err := strconv.ParseInt(asString(number), 10, 64); err == nil {
		t = time.Unix(n/unit, n%unit*(1e9/unit))
	} else {
		f := parseNumber(number) / float64(unit)
		if !(f > float64(MinTime.Unix()) && f < float64(MaxTime.Unix())) {
			return t, false
		}
		seconds := math.Floor(f)
		t = time.Unix(int64(seconds), int64((f-seconds)*1e6)*1e3)
	}
	return t.UTC(), !t.Before(MinTime) && !t.After(MaxTime)
}
