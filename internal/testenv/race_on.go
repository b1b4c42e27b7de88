//go:build race

package testenv

// Race tells whether this is built with the race detector.
const Race = true
