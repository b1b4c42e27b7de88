// Package judge decides from what was seen, and without clocks, whether every
// client got what it was due: each matching event, no other, none twice, in
// order, and no gap without a reason.
//
// Whatever happens is given a number by one Clock in the process that sees it.
// What was answered before something else was asked happened before it; of what
// overlaps, either order is right.
package judge

import (
	"math"
	"sync/atomic"
)

// Seq orders what was seen.
type Seq int64

// Never is after everything.
const Never Seq = math.MaxInt64

// Clock hands out the numbers.
type Clock struct{ last atomic.Int64 }

// Now returns a number that is greater than all before.
func (c *Clock) Now() Seq { return Seq(c.last.Add(1)) }
