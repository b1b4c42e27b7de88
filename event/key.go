package event

import "math"

// A guess is a key of an object into which paths lead, with all that is known of
// it. Most events of a stream have the same keys in the same order, so that the
// key that came after another the last time is likely the one that comes now,
// and to compare is faster than to scan, hash and look up.
//
//	words  `amount":` and what follows it, up to 16 bytes
//	masks  ff for each byte up to and with the colon, then 0
type guess struct {
	words, masks [2]uint64
	size         int    // of the key, its quote and the colon
	parent       int32  // the node of the object; none if there is no guess
	at           int32  // the node of the key
	hash         uint64 // as Paths.hash
}

// right reports whether the key after the quote before i is the guess.
func (g *guess) right(raw []byte, i int, parent int32) bool {
	return g.parent == parent && i+16 <= len(raw) &&
		(load(raw, i)^g.words[0])&g.masks[0]|(load(raw, i+8)^g.words[1])&g.masks[1] == 0
}

// learn makes a guess of the size bytes at i.
func (g *guess) learn(raw []byte, i, size int, parent, at int32, hash uint64) {
	if size > 16 || i+16 > len(raw) {
		return
	}
	g.words = [2]uint64{load(raw, i), load(raw, i+8)}
	g.masks = [2]uint64{math.MaxUint64 >> (64 - 8*min(size, 8)), math.MaxUint64 >> (64 - 8*max(size-8, 0))}
	g.size, g.parent, g.at, g.hash = size, parent, at, hash
}

// key scans a key and the colon after it, from the byte after its quote on. It
// returns the key's node and its hash; that of no key is start. If the key is
// only ASCII without escapes, it becomes the guess for the next time.
func (d *Decoder) key(i int, parent int32, start uint64, g *guess) (end int, at int32, hash uint64) {
	raw, p := d.raw, d.paths
	hash = start
	for end = i; end+8 <= len(raw); end += 8 {
		word := load(raw, end)
		m := special(word)
		if m == 0 {
			hash = mix(hash, word, p.seed[1])
			continue
		}
		if end += upTo(m); raw[end-1] != '"' {
			break
		}
		hash = mix(hash, word&below(m), p.seed[1])
		at = p.child(parent, raw[i:end-1], hash)
		if end < len(raw) && raw[end] == ':' {
			end++
			g.learn(raw, i, end-i, parent, at, hash)
			return end, at, hash
		}
		return skipColon(raw, end), at, hash
	}
	return d.hardKey(i, parent)
}

// hardKey is key for keys with more than plain ASCII in them, or near the end of
// raw.
func (d *Decoder) hardKey(i int, parent int32) (end int, at int32, hash uint64) {
	end, escaped := d.skipHardString(i)
	if end < 0 {
		return bad, none, 0
	}
	key := d.raw[i : end-1]
	if escaped {
		d.unescapedKey = appendUnescaped(d.unescapedKey[:0], key)
		key = d.unescapedKey
	}
	hash = d.paths.hash(parent, key)
	return skipColon(d.raw, end), d.paths.child(parent, key, hash), hash
}
