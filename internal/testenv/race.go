package testenv

import "eventstream/internal/bubble"

// Race tells whether this is built with the race detector.
const Race = bubble.Race
