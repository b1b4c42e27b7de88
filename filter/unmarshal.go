package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrUnknown reports stored JSON with a field or an operator that this version does not
// know, because a newer one wrote it. If it were ignored, the filter would match events that
// its subscriber must not get.
var ErrUnknown = errors.New("a condition that this version does not know")

// The forms in which Spec, Filter and Change are decoded. They are types without
// UnmarshalJSON: a struct would inherit the method from one that it embeds.
type (
	specJSON   Spec
	filterJSON struct {
		ID       ID    `json:"id"`
		Revision int64 `json:"revision"`
		specJSON
	}
	changeJSON struct {
		filterJSON
		Deleted bool `json:"deleted"`
	}
)

// UnmarshalJSON decodes a stored Spec. An unknown field is an ErrUnknown.
func (s *Spec) UnmarshalJSON(b []byte) error { return strictUnmarshal(b, (*specJSON)(s)) }

// UnmarshalJSON decodes a stored Filter. An unknown field is an ErrUnknown.
func (f *Filter) UnmarshalJSON(b []byte) error {
	form := filterJSON{f.ID, f.Revision, specJSON(f.Spec)}
	err := strictUnmarshal(b, &form)
	*f = form.filter()
	return err
}

// UnmarshalJSON decodes a Change. An unknown field is an ErrUnknown.
func (c *Change) UnmarshalJSON(b []byte) error {
	form := changeJSON{filterJSON{c.ID, c.Revision, specJSON(c.Spec)}, c.Deleted}
	err := strictUnmarshal(b, &form)
	*c = Change{form.filter(), form.Deleted}
	return err
}

func (f *filterJSON) filter() Filter { return Filter{f.ID, f.Revision, Spec(f.specJSON)} }

func strictUnmarshal(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		return nil
	}
	// encoding/json has no type for it.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	return err
}
