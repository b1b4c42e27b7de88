// Package defect holds deliberate mistakes, to see that eventstream-check and the
// gateway's model test catch them. The product's code has none of them: Overlay writes
// copies of its files with all of them in, for go build -overlay. In what is built of
// these EVENTSTREAM_DEFECT switches one on.
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

// edit is a change of the product's code that a defect needs. It is found by the code
// alone, which has to be there once: code may move to another file.
type edit struct {
	defect   string
	old, new string // on stands for "this defect is switched on"
}

var edits = []edit{
	{StartAtCommit, `
	if next < 0 {
		return fmt.Errorf("the lane of partition`, `
	if on && next < w.position() {
		next, err = w.lanes.Append(ctx, lane.Append{Shard: w.cfg.Shard, Partition: w.part.ID, Topic: w.topic.Load().ID, Expect: next, Next: w.position(), Synced: at, End: w.kafkaEnd()})
		if err != nil {
			return w.storeFailed("append to lane", err)
		}
	}
	if next < 0 {
		return fmt.Errorf("the lane of partition`},

	{IdleUnverified, `
	case got == w.next:
		return false, errRefused`, `
	case got == w.next:
		return false, errRefused
	case on && next == w.next:`},

	{ControlFirst, `
		records, err := w.part.Next(`, `
		if on {
			if err := w.look(ctx); err != nil {
				return err
			}
		}
		records, err := w.part.Next(`},
	{ControlFirst, `
	if err := w.look(ctx); err != nil { // after the batch`, `
	if on {
	} else if err := w.look(ctx); err != nil { // after the batch`},

	{MoveFirst, `
	owner, keys, trim := owner(`, `
	if on && len(a.Entry) > 0 {
		move := a
		move.Entry = nil
		if next, err = r.Append(ctx, move); err == nil && next == a.Next {
			id := offset(a.Last) + "-1"
			err = r.client.Do(ctx, r.client.B().Xadd().Key(r.laneKey(a.Shard, a.Partition)).Id(id).FieldValue().FieldValue("b", rueidis.BinaryString(a.Entry)).Build()).Error()
		}
		return next, err
	}
	owner, keys, trim := owner(`},

	{AnswerFirst, `
	if s.publish(change) != nil {`, `
	if on {
		go s.publish(change)
	} else if s.publish(change) != nil {`},
	{AnswerFirst, `
	if s.tell(publish) != nil {`, `
	if on {
		go s.tell(publish)
	} else if s.tell(publish) != nil {`},

	{RingAtOnce, `
	if from < l.from {`, `
	if from < l.from && !on {`},

	{NoDedupe, ` || c.opening != nil && c.opening.end != nil {`, ` && !on || c.opening != nil && c.opening.end != nil {`},

	{SeenIgnored, `
	if seen != "" {
		if ask.Seen, ask.Cursor, err = Saw(`, `
	if seen != "" && !on {
		if ask.Seen, ask.Cursor, err = Saw(`},

	{SeatReused, `
	s.last++
	s.taken[s.last] = subscriber`, `
	if e := s.ended.Front(); on && e != nil {
		seat := s.ended.Remove(e).(ended).seat
		delete(s.free, s.taken[seat])
		s.taken[seat] = subscriber
		return seat, nil
	}
	s.last++
	s.taken[s.last] = subscriber`},
}
