//go:build !race

package bubble

// Race tells whether this is built with the race detector.
const Race = false
