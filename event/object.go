package event

// object scans an object after its brace.
func (d *Decoder) object(i int, at int32, level int) int {
	i = skipSpace(d.raw, i)
	if i < len(d.raw) && d.raw[i] == '}' {
		return i + 1
	}
	if level == MaxDepth {
		return tooDeep
	}
	if d.paths.nodes[at].inner {
		return d.members(i, at, level+1)
	}
	for more := true; more; {
		if i >= len(d.raw) || d.raw[i] != '"' {
			return bad
		}
		i, _ = d.skipString(i + 1)
		if i = skipColon(d.raw, i); i < 0 {
			return bad
		}
		i, more = skipComma(d.raw, d.value(i, none, level+1), '}')
	}
	return i
}

// members scans the members of an object into which paths lead, from the first
// key on.
func (d *Decoder) members(i int, parent int32, level int) int {
	raw := d.raw
	d.objects++
	object, at := d.objects, int32(none)
	start := d.paths.start(parent)
	last := start
	for more := true; more; {
		if i >= len(raw) || raw[i] != '"' {
			return bad
		}
		i++
		if g := &d.guesses[last%uint64(len(d.guesses))]; g.right(raw, i, parent) {
			i, at, last = i+g.size, g.at, g.hash
		} else if i, at, last = d.key(i, parent, start, g); i < 0 {
			return bad
		}
		if i < len(raw) && raw[i] <= ' ' {
			i = skipSpace(raw, i)
		}
		switch {
		case at != none:
			i = d.member(i, at, object, level)
		case i < len(raw) && raw[i] == '"': // as value does, but faster
			i, _ = d.skipString(i + 1)
		default:
			i = d.value(i, none, level)
		}
		if i >= 0 && i+1 < len(raw) && raw[i] == ',' && raw[i+1] == '"' {
			i++ // as skipComma does, but faster
		} else {
			i, more = skipComma(raw, i, '}')
		}
	}
	return i
}

// member scans the value of a key that is on a path.
func (d *Decoder) member(i int, at int32, object uint64, level int) int {
	s := &d.stamps[at]
	if s.object == object {
		d.bury(s.start, s.end)
	}
	s.object, s.start = object, int32(len(d.ev.values))
	if at == typeNode {
		d.typeAt = i
	}
	if i < len(d.raw) && d.raw[i] == '"' { // as value does, but faster
		i = d.text(i, at)
	} else {
		i = d.value(i, at, level)
	}
	s.end = int32(len(d.ev.values))
	return i
}
