package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"eventstream/event"
	"github.com/redis/rueidis"
)

// ErrForgotten reports that the store had lost announcements of this gateway.
// The one that found it out was made; now announce everything (Announcement.All).
var ErrForgotten = errors.New("the store has lost what this gateway announced")

const (
	seqField  = "#"  // of a gateway's hash
	hashChunk = 1000 // fields a command
)

func (r *Redis) gatewaysKey() string { return r.key("{control}:gws") }

func (r *Redis) gatewayKey(g event.Gateway) string { return r.key("{control}:gw:") + g.String() }

// Announce writes a gateway's seats to its hash and, when that is done, tells of
// them on the control stream. Somebody who takes the end of the stream, then
// reads the hashes, then follows the stream from that end on, misses nothing.
// It returns the ID of the last entry, zero if there was nothing to tell.
func (r *Redis) Announce(ctx context.Context, a Announcement) (ControlID, error) {
	write := r.writeSeats
	if a.All {
		write = r.replaceSeats
	}
	forgotten, err := write(ctx, a)
	if err != nil {
		return ControlID{}, fmt.Errorf("redis announce seats of %s: %w", a.Gateway, err)
	}
	id, err := r.controlAdd(ctx, seatsField, seatEntries(a.Gateway, a.Joined, a.Forgot)...)
	if err != nil {
		return ControlID{}, fmt.Errorf("redis announce seats of %s: %w", a.Gateway, err)
	}
	if forgotten {
		return id, ErrForgotten
	}
	return id, nil
}

// writeSeats changes the hash. forgotten says that its sequence was not the one
// before a.Seq, nor, after a lost answer, a.Seq itself.
func (r *Redis) writeSeats(ctx context.Context, a Announcement) (forgotten bool, err error) {
	c, err := r.open(ctx)
	if err != nil {
		return false, err
	}
	key, b := r.gatewayKey(a.Gateway), c.B()
	commands := rueidis.Commands{b.Hget().Key(key).Field(seqField).Build()}
	commands = appendSeats(commands, b, key, a.Joined)
	for seats := range slices.Chunk(a.Vacated, hashChunk) {
		fields := make([]string, len(seats))
		for i, s := range seats {
			fields[i] = seatField(s)
		}
		commands = append(commands, b.Hdel().Key(key).Field(fields...).Build())
	}
	commands = append(commands, setSeq(b, key, a.Seq), expire(b, key, a.TTL), r.addGateway(b, a.Gateway))
	results, err := pipeline(ctx, c.DoMulti, commands...)
	if err != nil {
		return false, err
	}
	seq, err := seqOf(results[0])
	return seq != a.Seq && seq+1 != a.Seq, err
}

// replaceSeats puts a new hash in the old one's place, in one step for readers.
func (r *Redis) replaceSeats(ctx context.Context, a Announcement) (forgotten bool, err error) {
	c, err := r.open(ctx)
	if err != nil {
		return false, err
	}
	key, b := r.gatewayKey(a.Gateway), c.B()
	tmp := key + ":new"
	commands := rueidis.Commands{b.Unlink().Key(tmp).Build(), setSeq(b, tmp, a.Seq), expire(b, tmp, a.TTL)}
	commands = appendSeats(commands, b, tmp, a.Joined)
	commands = append(commands, b.Rename().Key(tmp).Newkey(key).Build(), r.addGateway(b, a.Gateway))
	_, err = pipeline(ctx, c.DoMulti, commands...)
	return false, err
}

func appendSeats(commands rueidis.Commands, b rueidis.Builder, key string, seats []Seated) rueidis.Commands {
	for chunk := range slices.Chunk(seats, hashChunk) {
		cmd := b.Hset().Key(key).FieldValue()
		for _, s := range chunk {
			cmd = cmd.FieldValue(seatField(s.Seat), s.Subscriber)
		}
		commands = append(commands, cmd.Build())
	}
	return commands
}

func setSeq(b rueidis.Builder, key string, seq uint64) rueidis.Completed {
	return b.Hset().Key(key).FieldValue().FieldValue(seqField, strconv.FormatUint(seq, 10)).Build()
}

func expire(b rueidis.Builder, key string, ttl time.Duration) rueidis.Completed {
	return b.Pexpire().Key(key).Milliseconds(max(ttl.Milliseconds(), 1)).Build()
}

func (r *Redis) addGateway(b rueidis.Builder, g event.Gateway) rueidis.Completed {
	return b.Sadd().Key(r.gatewaysKey()).Member(g.String()).Build()
}

// Heartbeat keeps a gateway's hash for another ttl and tells what the store has
// of it.
func (r *Redis) Heartbeat(ctx context.Context, g event.Gateway, ttl time.Duration) (Beat, error) {
	c, err := r.open(ctx)
	if err != nil {
		return Beat{}, fmt.Errorf("redis heartbeat of %s: %w", g, err)
	}
	key, b := r.gatewayKey(g), c.B()
	res, err := pipeline(ctx, c.DoMulti,
		expire(b, key, ttl),
		b.Hget().Key(key).Field(seqField).Build(),
		b.Get().Key(r.epochKey()).Build())
	if err != nil {
		return Beat{}, fmt.Errorf("redis heartbeat of %s: %w", g, err)
	}
	seq, err := seqOf(res[1])
	if err != nil {
		return Beat{}, fmt.Errorf("redis heartbeat of %s: %w", g, err)
	}
	epoch, err := res[2].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return Beat{}, fmt.Errorf("redis heartbeat of %s: epoch: %w", g, err)
	}
	return Beat{Epoch: epoch, Seq: seq}, nil
}

// seqOf reads a gateway's sequence; 0 if it has no hash.
func seqOf(res rueidis.RedisResult) (uint64, error) {
	seq, err := res.AsUint64()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	return seq, err
}

// Occupant returns the subscriber that sits, or sat, at an address.
func (r *Redis) Occupant(ctx context.Context, a event.Address) (subscriber string, ok bool, err error) {
	c, err := r.open(ctx)
	if err != nil {
		return "", false, fmt.Errorf("redis occupant of seat %d at %s: %w", a.Seat, a.Gateway, err)
	}
	subscriber, err = c.Do(ctx, c.B().Hget().Key(r.gatewayKey(a.Gateway)).Field(seatField(a.Seat)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("redis occupant of seat %d at %s: %w", a.Seat, a.Gateway, err)
	}
	return subscriber, true, nil
}

// removeScript: KEYS gateways, hash; ARGV gateway. One step, so that a gateway
// that announces itself at this moment isn't taken out again.
var removeScript = rueidis.NewLuaScript(`
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[1], ARGV[1]) end
return 1
`)

// Gateways returns the gateways whose hash is there.
func (r *Redis) Gateways(ctx context.Context) ([]event.Gateway, error) {
	c, err := r.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis gateways: %w", err)
	}
	names, err := c.Do(ctx, c.B().Smembers().Key(r.gatewaysKey()).Build()).AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("redis gateways: %w", err)
	}
	var out []event.Gateway
	for _, name := range names {
		g, err := event.ParseGateway(name)
		if err != nil {
			return nil, fmt.Errorf("redis gateways: %w", err)
		}
		there, err := c.Do(ctx, c.B().Exists().Key(r.gatewayKey(g)).Build()).AsBool()
		if err == nil && !there {
			err = r.exec(ctx, removeScript, []string{r.gatewaysKey(), r.gatewayKey(g)}, []string{name}).Error()
		}
		if err != nil {
			return nil, fmt.Errorf("redis gateway %s: %w", g, err)
		}
		if there {
			out = append(out, g)
		}
	}
	return out, nil
}

// Seats passes the seats of a gateway on, none if it has no hash. A seat may
// come more than once; those that are there all the time come at least once.
func (r *Redis) Seats(ctx context.Context, g event.Gateway, sink func([]Seated) error) error {
	c, err := r.open(ctx)
	if err != nil {
		return fmt.Errorf("redis seats of %s: %w", g, err)
	}
	for cursor := uint64(0); ; {
		page, err := c.Do(ctx, c.B().Hscan().Key(r.gatewayKey(g)).
			Cursor(cursor).Count(hashChunk).Build()).AsScanEntry()
		if err != nil {
			return fmt.Errorf("redis seats of %s: %w", g, err)
		}
		if seats := seatsOf(page.Elements); len(seats) > 0 {
			if err := sink(seats); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// seatsOf reads the field-value pairs of a gateway's hash.
func seatsOf(pairs []string) []Seated {
	out := make([]Seated, 0, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		seat, err := strconv.ParseUint(pair[0], 10, 32)
		if err != nil || len(pair) != 2 {
			continue // the sequence
		}
		out = append(out, Seated{event.Seat(seat), pair[1]})
	}
	return out
}

func seatField(s event.Seat) string { return strconv.FormatUint(uint64(s), 10) }
