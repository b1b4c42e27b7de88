package replay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"eventstream/event"
	"eventstream/filter"
)

// requestJSON is a Request on its way.
type requestJSON struct {
	Subscriber string     `json:"subscriber"`
	Topic      string     `json:"topic,omitempty"` // 32 hex digits
	From       []int64    `json:"from,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	To         []int64    `json:"to,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
}

// maxRequest bounds the JSON of a Request: offsets of the most partitions, twice.
const maxRequest = 2*event.MaxPartitions*21 + 8<<10

func (r *Request) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	out := requestJSON{Subscriber: r.Subscriber, From: r.From, To: r.To}
	if r.Topic != (event.TopicID{}) {
		out.Topic = hex.EncodeToString(r.Topic[:])
	}
	if !r.Since.IsZero() {
		out.Since = &r.Since
	}
	if !r.Until.IsZero() {
		out.Until = &r.Until
	}
	return json.Marshal(out)
}

// decodeRequest is the inverse of encode. Its errors are ErrRequest.
func decodeRequest(body []byte) (Request, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var in requestJSON
	if err := dec.Decode(&in); err != nil {
		return Request{}, fmt.Errorf("%w: want one JSON object with subscriber, topic, from or since, to or until: %s", ErrRequest, plain(err))
	}
	if _, err := dec.Token(); err != io.EOF {
		return Request{}, fmt.Errorf("%w: something follows the JSON object", ErrRequest)
	}
	r := Request{Subscriber: in.Subscriber, From: in.From, To: in.To}
	if in.Topic != "" {
		id, err := hex.DecodeString(in.Topic)
		if err != nil || len(id) != len(r.Topic) {
			return Request{}, fmt.Errorf("%w: topic %.40q: want %d hex digits", ErrRequest, in.Topic, 2*len(r.Topic))
		}
		r.Topic = event.TopicID(id)
	}
	if in.Since != nil {
		r.Since = *in.Since
	}
	if in.Until != nil {
		r.Until = *in.Until
	}
	return r, r.check()
}

// plain is what encoding/json says, without its name.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

func (r *Request) check() error {
	if err := filter.CheckSubscriberID(r.Subscriber); err != nil {
		return fmt.Errorf("%w: subscriber: %w", ErrRequest, err)
	}
	switch {
	case len(r.From) == 0 && r.Since.IsZero():
		return fmt.Errorf("%w: want from or since", ErrRequest)
	case len(r.To) > 0 && !r.Until.IsZero():
		return fmt.Errorf("%w: want to or until, not both", ErrRequest)
	case len(r.From) > 0 && len(r.To) > len(r.From):
		return fmt.Errorf("%w: to has %d partitions, from has %d", ErrRequest, len(r.To), len(r.From))
	case !r.Until.IsZero() && r.Until.Before(r.Since):
		return fmt.Errorf("%w: until is before since", ErrRequest)
	}
	if err := checkTime("since", r.Since); err != nil {
		return err
	}
	if err := checkTime("until", r.Until); err != nil {
		return err
	}
	for i, from := range r.From {
		if i < len(r.To) && r.To[i] < from {
			return fmt.Errorf("%w: partition %d: to %d is before from %d", ErrRequest, i, r.To[i], from)
		}
	}
	return checkOffsets(r.From, r.To)
}

// checkTime refuses times that have no place in Unix milliseconds or RFC 3339.
func checkTime(name string, t time.Time) error {
	if !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999) {
		return fmt.Errorf("%w: %s: want a year from 1970 to 9999", ErrRequest, name)
	}
	return nil
}

func checkOffsets(lists ...[]int64) error {
	for _, list := range lists {
		if len(list) > event.MaxPartitions {
			return fmt.Errorf("%w: %d partitions; at most %d are possible", ErrRequest, len(list), event.MaxPartitions)
		}
		for p, o := range list {
			if o < 0 || o == math.MaxInt64 {
				return fmt.Errorf("%w: partition %d: %d is no offset", ErrRequest, p, o)
			}
		}
	}
	return nil
}
