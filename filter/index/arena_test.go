package index

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestConditionsAgainstMap adds Conditions with texts of all sizes, under few hashes,
// takes some out, and looks at the others: none lies in the room of another one, and
// what is given back is used again.
func TestConditionsAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	h := newArena()
	held := map[string]*Condition{}
	head := []byte{2, 'p', 'q'}
	remove := func(text string, c *Condition) {
		h.giveBack(h.unlink(keyOf(text), c), unitsOf(c.size))
		delete(held, text)
	}
	add := func(text string) {
		held[text] = h.add(keyOf(text), head, []byte(text))
	}
	for step := range uint32(30000) {
		if step%3 == 2 {
			for text, c := range held { // any
				remove(text, c)
				break
			}
			continue
		}
		text := binary.BigEndian.AppendUint32(nil, step)
		add(string(bytes.Repeat(text, 1+rng.IntN(1<<rng.UintN(10)))))
	}
	for text, c := range held {
		if got := h.find(keyOf(text), []byte(text)); got != c {
			t.Errorf("condition %.8x… is at %p, want %p", text, got, c)
		}
		if plans, alternatives := c.parts(); string(plans) != "pq" || string(alternatives) != text {
			t.Errorf("condition %.8x… has the plans %q and the text %.8x…", text, plans, alternatives)
		}
	}

	before, texts := len(h.chunks), []string{}
	for text, c := range held {
		texts = append(texts, text)
		remove(text, c)
	}
	if len(h.byHash) > 0 {
		t.Errorf("%d hashes are left of no condition", len(h.byHash))
	}
	for _, text := range texts {
		add(text)
	}
	if len(h.chunks) != before {
		t.Errorf("the same conditions once more took %d chunks, want %d", len(h.chunks), before)
	}
}

// keyOf is one of few hashes, so that many texts share each.
func keyOf(text string) uint32 { return uint32(len(text)) % 7 }
