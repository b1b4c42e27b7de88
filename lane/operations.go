package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Operation is what an operator did to lanes.
type Operation struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`             // user@host
	What string    `json:"what"`           // the command
	Note string    `json:"note,omitempty"` // why, in the operator's words
	Err  string    `json:"error,omitempty"`
}

// maxOperations is how many are kept.
const maxOperations = 100

func (r *Redis) operationsKey() string { return r.key("{control}:operations") }

// NoteOperation keeps a record of an operation. The oldest ones go.
func (r *Redis) NoteOperation(ctx context.Context, op Operation) error {
	text, err := json.Marshal(op)
	if err != nil {
		return err
	}
	c, err := r.open(ctx)
	if err == nil {
		_, err = pipeline(ctx, c.DoMulti,
			c.B().Xadd().Key(r.operationsKey()).Id("*").FieldValue().FieldValue("o", rueidis.BinaryString(text)).Build(),
			c.B().Xtrim().Key(r.operationsKey()).Maxlen().Threshold(strconv.Itoa(maxOperations)).Build())
	}
	if err != nil {
		return fmt.Errorf("redis note an operation: %w", err)
	}
	return nil
}

// Operations returns those that are kept, the newest first.
func (r *Redis) Operations(ctx context.Context) ([]Operation, error) {
	c, err := r.open(ctx)
	var entries []rueidis.XRangeEntry
	if err == nil {
		entries, err = c.Do(ctx, c.B().Xrevrange().Key(r.operationsKey()).End("+").Start("-").Build()).AsXRange()
	}
	if err != nil {
		return nil, fmt.Errorf("redis operations: %w", err)
	}
	ops := make([]Operation, 0, len(entries))
	for _, e := range entries {
		var op Operation
		if err := json.Unmarshal([]byte(e.FieldValues["o"]), &op); err != nil {
			return nil, fmt.Errorf("redis operation %s: %w", e.ID, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}
