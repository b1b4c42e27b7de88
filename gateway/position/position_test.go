package position

import (
	"slices"
	"testing"
)

// Lists of different lengths: what one of them lacks is at 0.
func TestLists(t *testing.T) {
	for _, tt := range []struct {
		a, b    []int64
		highest []int64
		below   int // of a, below b
	}{
		{nil, nil, nil, -1},
		{[]int64{1, 2}, nil, []int64{1, 2}, -1},
		{nil, []int64{0, 3}, []int64{0, 3}, 1},
		{[]int64{5, 1}, []int64{4, 1, 0}, []int64{5, 1, 0}, -1},
		{[]int64{5, 1}, []int64{4, 2, 7}, []int64{5, 2, 7}, 1},
		{[]int64{5, 1, 9}, []int64{6}, []int64{6, 1, 9}, 0},
	} {
		if got := Highest(tt.a, tt.b); !slices.Equal(got, tt.highest) {
			t.Errorf("Highest(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.highest)
		}
		if got := Below(tt.a, tt.b); got != tt.below {
			t.Errorf("Below(%v, %v) = %d, want %d", tt.a, tt.b, got, tt.below)
		}
	}
}

// A copy shares no memory with its list, however long it is.
func TestExtendCopies(t *testing.T) {
	list := append(make([]int64, 0, 8), 1, 2)
	for n := range 5 {
		longer := Extend(list, n)
		if len(longer) != max(n, 2) || Of(longer, 1) != 2 || Of(longer, 4) != 0 {
			t.Fatalf("Extend(%v, %d) = %v", list, n, longer)
		}
		longer[0] = 9
		if longer = append(longer, 7); list[0] != 1 || list[:3][2] != 0 || longer[0] != 9 {
			t.Fatalf("Extend(%v, %d) shares memory", list, n)
		}
	}
}
