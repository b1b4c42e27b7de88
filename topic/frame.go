package topic

import (
	"encoding/binary"
	"errors"
	"fmt"

	"eventstream/event"
)

// A value that was written with a Schema Registry begins with a frame:
//
//	0 magic byte, 0 | 1 schema id, big endian | 5
const frameBytes = 5

// Frame returns the schema id of a value with a Schema Registry's frame, and what follows it.
func Frame(value []byte) (id uint32, body []byte, ok bool) {
	if len(value) < frameBytes || value[0] != 0 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(value[1:]), value[frameBytes:], true
}

// framed says which schema a value needs that was read as JSON.
func framed(value []byte, err error) error {
	id, _, ok := Frame(value)
	if !ok || !errors.Is(err, event.ErrRegistry) {
		return err
	}
	return fmt.Errorf("%w: a Schema Registry frame with schema id %d, but the source's format is json", event.ErrNotJSON, id)
}
