// Package position reckons with positions: lists of offsets, by partition.
//
// A topic can be given more partitions at any time. So a list that comes from a
// client, a filter service or another gateway can be longer or shorter than ours. A
// partition that a list does not have is at 0 in it, because that is from where it is
// wanted. Therefore nothing indexes one list by the partitions of another one: it asks
// this package.
package position

import "slices"

// Of returns the position of a partition.
func Of(list []int64, p int32) int64 {
	if int(p) >= len(list) {
		return 0
	}
	return list[p]
}

// Extend returns a copy of the list, with at least n partitions.
func Extend(list []int64, n int) []int64 {
	return append(slices.Clone(list), make([]int64, max(0, n-len(list)))...)
}

// Highest returns the higher one of two positions for each partition.
func Highest(a, b []int64) []int64 {
	out := Extend(a, len(b))
	for p, n := range b {
		out[p] = max(out[p], n)
	}
	return out
}

// Below returns the first partition whose position in next is below that in floor, or -1.
func Below(next, floor []int64) int {
	for p, n := range floor {
		if Of(next, int32(p)) < n {
			return p
		}
	}
	return -1
}
