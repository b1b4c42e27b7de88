package format

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"eventstream/event"
)

// read appends the JSON of an Avro value. Every value makes at least a byte of it, so that
// the bound of JSON bounds the work, whatever the value says of itself.
func (s *avroSchema) read(dst, body []byte) ([]byte, error) {
	r := avroReaders.Get().(*avroReader)
	*r = avroReader{in: body, out: dst}
	err := r.value(s)
	out, left := r.out, len(r.in)
	*r = avroReader{}
	avroReaders.Put(r)
	if err == nil && left > 0 {
		err = fmt.Errorf("%w: %d", errLeft, left)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// avroReaders are for the next values: functions of schemas would have each on the heap.
var avroReaders = sync.Pool{New: func() any { return new(avroReader) }}

// avroReader reads one value.
type avroReader struct {
	in, out []byte
	depth   int
}

func (r *avroReader) value(s *avroSchema) error {
	if len(r.out) > event.MaxBytes || r.depth > event.MaxDepth {
		return full(len(r.out), r.depth)
	}
	return s.do(r, s)
}

func (r *avroReader) record(s *avroSchema) error {
	r.depth++
	for i := range s.members {
		m := &s.members[i]
		r.out = append(r.out, m.name...)
		if len(r.out) > event.MaxBytes || r.depth > event.MaxDepth {
			return full(len(r.out), r.depth)
		}
		if err := m.schema.do(r, m.schema); err != nil {
			return err
		}
	}
	r.depth--
	if len(s.members) == 0 {
		r.out = append(r.out, '{')
	}
	r.out = append(r.out, '}')
	return nil
}

func (r *avroReader) union(s *avroSchema) error {
	i, err := r.varint()
	if err != nil {
		return err
	}
	if i < 0 || i >= int64(len(s.inner)) {
		return fmt.Errorf("a union has no type %d", i)
	}
	return r.value(s.inner[i])
}

func (r *avroReader) array(s *avroSchema) error {
	r.out = append(r.out, '[')
	err := r.blocks(func() error { return r.value(s.inner[0]) })
	r.out = append(r.out, ']')
	return err
}

func (r *avroReader) object(s *avroSchema) error {
	r.out = append(r.out, '{')
	err := r.blocks(func() error {
		if err := r.text(nil); err != nil {
			return err
		}
		r.out = append(r.out, ':')
		return r.value(s.inner[0])
	})
	r.out = append(r.out, '}')
	return err
}

// blocks reads the items of an array or a map, with commas between them.
func (r *avroReader) blocks(item func() error) error {
	r.depth++
	for first := true; ; {
		n, err := r.varint()
		if n < 0 && err == nil { // how many bytes follow is for who passes over them
			n = -n
			_, err = r.varint()
		}
		if err != nil || n == 0 {
			r.depth--
			return err
		}
		if n < 0 {
			return fmt.Errorf("a block of %d items", n)
		}
		for ; n > 0; n-- {
			if !first {
				r.out = append(r.out, ',')
			}
			first = false
			if err := item(); err != nil {
				return err
			}
		}
	}
}

func (r *avroReader) null(*avroSchema) error {
	r.out = append(r.out, "null"...)
	return nil
}

func (r *avroReader) boolean(*avroSchema) error {
	b, err := r.take(1)
	if err != nil {
		return err
	}
	if b[0] > 1 {
		return fmt.Errorf("a boolean is %d", b[0])
	}
	r.out = strconv.AppendBool(r.out, b[0] == 1)
	return nil
}

func (r *avroReader) integer(*avroSchema) error {
	n, err := r.int32()
	r.out = strconv.AppendInt(r.out, n, 10)
	return err
}

func (r *avroReader) long(*avroSchema) error {
	n, err := r.varint()
	r.out = strconv.AppendInt(r.out, n, 10)
	return err
}

func (r *avroReader) float(*avroSchema) error {
	b, err := r.take(4)
	if err != nil {
		return err
	}
	r.out = appendFloat(r.out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
	return nil
}

func (r *avroReader) double(*avroSchema) error {
	b, err := r.take(8)
	if err != nil {
		return err
	}
	r.out = appendFloat(r.out, math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
	return nil
}

func (r *avroReader) bytes(*avroSchema) error {
	b, err := r.block()
	if err == nil {
		err = room(r.out, len(b))
	}
	if err != nil {
		return err
	}
	r.out = appendBase64(r.out, b)
	return nil
}

func (r *avroReader) text(*avroSchema) error {
	b, err := r.block()
	if err == nil {
		err = room(r.out, len(b))
	}
	if err != nil {
		return err
	}
	r.out = appendString(r.out, b)
	return nil
}

func (r *avroReader) enum(s *avroSchema) error {
	i, err := r.varint()
	if err != nil {
		return err
	}
	if i < 0 || i >= int64(len(s.symbols)) {
		return fmt.Errorf("an enum has no symbol %d", i)
	}
	r.out = append(r.out, s.symbols[i]...)
	return nil
}

func (r *avroReader) fixed(s *avroSchema) error {
	b, err := r.take(s.size)
	if err == nil {
		err = room(r.out, len(b))
	}
	if err != nil {
		return err
	}
	r.out = appendBase64(r.out, b)
	return nil
}

func (r *avroReader) fixedUUID(*avroSchema) error {
	b, err := r.take(16)
	if err != nil {
		return err
	}
	r.out = appendString(r.out, []byte(uuid.UUID(b).String()))
	return nil
}

// duration is three numbers, which have nothing to do with each other.
func (r *avroReader) duration(*avroSchema) error {
	b, err := r.take(12)
	if err != nil {
		return err
	}
	r.out = fmt.Appendf(r.out, `{"months":%d,"days":%d,"milliseconds":%d}`,
		binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]))
	return nil
}

// maxDecimal bounds the bytes of a decimal: to write it takes time by their square.
const maxDecimal = 512

func (r *avroReader) decimal(s *avroSchema) error {
	b, err := r.block()
	if err != nil {
		return err
	}
	return r.appendDecimal(b, s.scale)
}

func (r *avroReader) fixedDecimal(s *avroSchema) error {
	b, err := r.take(s.size)
	if err != nil {
		return err
	}
	return r.appendDecimal(b, s.scale)
}

func (r *avroReader) appendDecimal(b []byte, scale int) error {
	if len(b) > maxDecimal {
		return fmt.Errorf("a decimal of %d bytes; at most %d are possible", len(b), maxDecimal)
	}
	r.out = appendDecimal(r.out, b, scale)
	return nil
}

func (r *avroReader) date(*avroSchema) error {
	n, err := r.int32()
	r.out = appendTime(r.out, time.Unix(n*86400, 0), dateOnly, n)
	return err
}

func (r *avroReader) timeMillis(*avroSchema) error {
	n, err := r.int32()
	r.out = appendDaytime(r.out, n, time.Millisecond)
	return err
}

func (r *avroReader) timeMicros(*avroSchema) error {
	n, err := r.varint()
	r.out = appendDaytime(r.out, n, time.Microsecond)
	return err
}

// appendDaytime appends the time of a day. n is in its place if no day has it.
func appendDaytime(dst []byte, n int64, unit time.Duration) []byte {
	if n < 0 || n >= int64(24*time.Hour/unit) {
		return strconv.AppendInt(dst, n, 10)
	}
	return appendTime(dst, time.Unix(0, n*int64(unit)), timeOnly, n)
}

func (r *avroReader) millis(*avroSchema) error { return r.instant(time.UnixMilli, time.RFC3339Nano) }
func (r *avroReader) micros(*avroSchema) error { return r.instant(time.UnixMicro, time.RFC3339Nano) }
func (r *avroReader) nanos(*avroSchema) error  { return r.instant(unixNano, time.RFC3339Nano) }

func (r *avroReader) localMillis(*avroSchema) error { return r.instant(time.UnixMilli, localTime) }
func (r *avroReader) localMicros(*avroSchema) error { return r.instant(time.UnixMicro, localTime) }
func (r *avroReader) localNanos(*avroSchema) error  { return r.instant(unixNano, localTime) }

func unixNano(n int64) time.Time { return time.Unix(0, n) }

func (r *avroReader) instant(since func(int64) time.Time, layout string) error {
	n, err := r.varint()
	r.out = appendTime(r.out, since(n), layout, n)
	return err
}

// varint takes a long.
func (r *avroReader) varint() (int64, error) {
	if len(r.in) > 0 && r.in[0] < 0x80 { // most are
		n := int64(r.in[0])
		r.in = r.in[1:]
		return n>>1 ^ -(n & 1), nil
	}
	n, size := binary.Varint(r.in)
	if size == 0 {
		return 0, errShort
	}
	if size < 0 {
		return 0, fmt.Errorf("a number of more than 64 bits")
	}
	r.in = r.in[size:]
	return n, nil
}

func (r *avroReader) int32() (int64, error) {
	n, err := r.varint()
	if err == nil && n != int64(int32(n)) {
		err = fmt.Errorf("an int of more than 32 bits")
	}
	return n, err
}

// block takes bytes with their length before them.
func (r *avroReader) block() ([]byte, error) {
	if len(r.in) > 0 && r.in[0]&0x81 == 0 { // a length of one byte, as most are
		if n := 1 + int(r.in[0]>>1); n <= len(r.in) {
			b := r.in[1:n:n]
			r.in = r.in[n:]
			return b, nil
		}
	}
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, fmt.Errorf("a text or bytes of length %d", n)
	}
	if n > int64(len(r.in)) {
		return nil, errShort
	}
	return r.take(int(n))
}

func (r *avroReader) take(n int) ([]byte, error) {
	if n > len(r.in) {
		return nil, errShort
	}
	b := r.in[:n]
	r.in = r.in[n:]
	return b, nil
}
