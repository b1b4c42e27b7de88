package gateway

import "slices"

// Positions are offsets by partition. A topic can be given more partitions at any
// time, and a client's or a filter service's positions can be longer or shorter than
// ours: a partition that a list does not have is at 0 in it, since that is where it is
// wanted from. So nothing indexes one list by the partitions of another, but by these.

// offsetIn returns the position of a partition.
func offsetIn(list []int64, p int32) int64 {
	if int(p) >= len(list) {
		return 0
	}
	return list[p]
}

// extended returns a copy of positions, with at least n partitions.
func extended(list []int64, n int) []int64 {
	return append(slices.Clone(list), make([]int64, max(0, n-len(list)))...)
}

// highest returns the higher one of two positions for each partition.
func highest(a, b []int64) []int64 {
	out := extended(a, len(b))
	for p, n := range b {
		out[p] = max(out[p], n)
	}
	return out
}

// below returns a partition whose position is below the floor, or -1.
func below(next, floor []int64) int {
	for p, n := range floor {
		if offsetIn(next, int32(p)) < n {
			return p
		}
	}
	return -1
}
