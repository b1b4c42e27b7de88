// Package defect holds mistakes that can be switched on, one at a time, to see
// that eventstream-check catches them. They are in a program only if it was built
// with the tag "defects", and then only if EVENTSTREAM_DEFECT names one.
package defect

// The defects, by what is done wrong.
const (
	StartAtCommit  = "start-at-commit" // after Redis lost writes, a worker goes on from where it was, not from where the lane is
	IdleUnverified = "idle-unverified" // an idle partition does not look whether its lane lost writes
	ControlFirst   = "control-first"   // the control stream is read before the batch, not after it
	MoveFirst      = "move-first"      // a lane's position moves before its entry is appended
	AnswerFirst    = "answer-first"    // a changed filter is published after the answer
	RingAtOnce     = "ring-at-once"    // who comes back is served from a ring that does not reach back that far yet
	NoDedupe       = "no-dedupe"       // an event addressed to a connection's old and new seat is sent twice
	SeenIgnored    = "seen-ignored"    // what a client says that it has is sent again
	SeatReused     = "seat-reused"     // the seat of a connection that ended is given to another subscriber
)

// Names returns all of them.
func Names() []string {
	return []string{StartAtCommit, IdleUnverified, ControlFirst, MoveFirst, AnswerFirst, RingAtOnce, NoDedupe, SeenIgnored, SeatReused}
}
