package filter

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestTextsAgainstMap puts texts of all sizes, gives some back, and looks at the
// others: none lies in the room of another one, and what is given back is used again.
func TestTextsAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var texts texts
	held := map[uint32][]byte{} // by place
	for step := range 30000 {
		if step%3 == 2 {
			for place, text := range held { // any
				texts.drop(place, uint32(len(text)))
				delete(held, place)
				break
			}
			continue
		}
		text := bytes.Repeat([]byte{byte(step), byte(step >> 8)}, 1+rng.IntN(1<<rng.UintN(11)))
		cut := rng.IntN(len(text) + 1)
		place := texts.put(text[:cut], text[cut:])
		if _, taken := held[place]; taken {
			t.Fatalf("step %d: place %d is given out twice", step, place)
		}
		held[place] = text
	}
	for place, want := range held {
		if got := texts.at(place, uint32(len(want))); !bytes.Equal(got, want) {
			t.Errorf("text at %d: got %.20q…, want %.20q…", place, got, want)
		}
	}

	before := len(texts.chunks)
	for place, text := range held {
		texts.drop(place, uint32(len(text)))
	}
	for _, text := range held {
		texts.put(text, nil)
	}
	if len(texts.chunks) != before {
		t.Errorf("the same texts once more took %d chunks, want %d", len(texts.chunks), before)
	}
}

// TestConditionsOfOneHash removes Conditions from each place of a chain.
func TestConditionsOfOneHash(t *testing.T) {
	for gone := range 3 {
		h := newConditions()
		var made [3]*Condition
		for i := range made {
			made[i] = h.add([]byte{0}, []byte{byte(i)})
		}
		// As if all had one hash: the first one's is that of all.
		key := hash([]byte{0})
		clear(h.byHash)
		made[0].next, made[1].next, made[2].next = 2, 3, 0
		h.byHash[key] = 1
		h.unlink(key, made[gone])
		for i, c := range made {
			found := false
			for at := h.byHash[key]; at != 0; at = h.at(at).next {
				found = found || h.at(at) == c
			}
			if found != (i != gone) {
				t.Errorf("after number %d went, %d is there: %t", gone, i, found)
			}
		}
	}
}
