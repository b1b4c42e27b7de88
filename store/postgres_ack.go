package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"eventstream/event"
	"eventstream/filter"
)

// SaveAcks saves acknowledgements, thousands in one round trip. Each is merged with the
// subscriber's saved one. Concurrent calls are safe.
func (p *Postgres) SaveAcks(ctx context.Context, acks []event.Ack) error {
	acks, err := merge(acks)
	if err != nil || len(acks) == 0 {
		return err
	}
	_, err = p.pool.Exec(ctx, saveAcks, append(ackColumns(acks), time.Now().Add(event.MaxClockAhead))...)
	return fail("save acknowledgements", err)
}

// saveAcks does event.Ack.Merge with the saved rows, for many. It reads the newest
// version of an existing row, under the row's lock. A saved time after $10 is wrong:
// see event.Ack.Heal.
const saveAcks = `
	insert into acks as old (subscriber_id, acked_at, topic, next, issued, gateway, seat, old_gateway, old_seat)
	select id, acked_at, topic, next::bigint[], issued, gateway, seat, old_gateway, old_seat
	from unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::timestamptz[],
		$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) with ordinality
		as new (id, acked_at, topic, next, issued, gateway, seat, old_gateway, old_seat, place)
	order by place
	on conflict (subscriber_id) do update set
		acked_at = greatest(case when old.acked_at <= $10 then old.acked_at end, excluded.acked_at),
		topic = excluded.topic, issued = excluded.issued,
		gateway = excluded.gateway, seat = excluded.seat,
		old_gateway = excluded.old_gateway, old_seat = excluded.old_seat,
		next = case when old.topic <> excluded.topic then excluded.next else array(
			select greatest(a, b) from unnest(old.next, excluded.next) with ordinality as t (a, b, p) order by p) end`

// ackColumns returns the arguments of saveAcks.
func ackColumns(acks []event.Ack) []any {
	n := len(acks)
	ids, ackedAt, issued := make([]string, n), make([]time.Time, n), make([]time.Time, n)
	topics, next := make([]string, n), make([]string, n)
	var at [4][]int64
	for i := range at {
		at[i] = make([]int64, n)
	}
	for i, a := range acks {
		c := &a.Cursor
		ids[i], ackedAt[i], issued[i] = a.Subscriber, a.At, c.Issued
		topics[i], next[i] = uuid.UUID(c.Topic).String(), arrayText(c.Next)
		at[0][i], at[1][i] = int64(c.Addr.Gateway), int64(c.Addr.Seat)
		at[2][i], at[3][i] = int64(c.Old.Gateway), int64(c.Old.Seat)
	}
	return []any{ids, ackedAt, topics, next, issued, at[0], at[1], at[2], at[3]}
}

// arrayText returns numbers in PostgreSQL's text form of an array. Arrays of different
// lengths can't be sent as an array of arrays.
func arrayText(numbers []int64) string {
	b := []byte{'{'}
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, '}'))
}

const ackRow = `select subscriber_id, acked_at, topic, next, issued, gateway, seat, old_gateway, old_seat from acks `

// Acked returns what a subscriber acknowledged, or ErrNotFound.
func (p *Postgres) Acked(ctx context.Context, subscriber string) (event.Ack, error) {
	if filter.CheckSubscriberID(subscriber) != nil { // PostgreSQL would reject it
		return event.Ack{}, ErrNotFound
	}
	a, err := scanAck(p.pool.QueryRow(ctx, ackRow+`where subscriber_id = $1`, subscriber))
	if errors.Is(err, pgx.ErrNoRows) {
		return event.Ack{}, ErrNotFound
	}
	return a, fail("read acknowledgement", err)
}

// ForgetAck deletes a subscriber's acknowledgement; the error is ErrNotFound if there
// is none. A subscriber that acknowledges again gets a new one.
func (p *Postgres) ForgetAck(ctx context.Context, subscriber string) error {
	if filter.CheckSubscriberID(subscriber) != nil {
		return ErrNotFound
	}
	tag, err := p.pool.Exec(ctx, `delete from acks where subscriber_id = $1`, subscriber)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return fail("forget acknowledgement", err)
}

// Acks returns at most limit acknowledgements of subscribers after the given one,
// sorted by subscriber id.
func (p *Postgres) Acks(ctx context.Context, after string, limit int) ([]event.Ack, error) {
	rows, err := p.pool.Query(ctx, ackRow+`where subscriber_id > $1 order by subscriber_id limit $2`, after, limit)
	if err != nil {
		return nil, fail("list acknowledgements", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Ack, error) { return scanAck(row) })
	return list, fail("list acknowledgements", err)
}

// ForgetAcks deletes at most limit acknowledgements of subscribers that last
// acknowledged before a time, and returns how many. It skips locked rows instead of
// waiting for them.
func (p *Postgres) ForgetAcks(ctx context.Context, before time.Time, limit int) (int64, error) {
	tag, err := p.pool.Exec(ctx, `
		with old as (select subscriber_id from acks where acked_at < $1 limit $2 for update skip locked)
		delete from acks a using old where a.subscriber_id = old.subscriber_id`, before, limit)
	return tag.RowsAffected(), fail("forget acknowledgements", err)
}

// CountAcks returns how many subscribers last acknowledged before a time. It reads all rows.
func (p *Postgres) CountAcks(ctx context.Context, before time.Time) (n int64, err error) {
	err = p.pool.QueryRow(ctx, `select count(*) from acks where acked_at < $1`, before).Scan(&n)
	return n, fail("count acknowledgements", err)
}

// AckTotals sums up all acknowledgements. For those in the given topic it also returns
// how far they are behind the given next offset of each partition. It reads all rows.
func (p *Postgres) AckTotals(ctx context.Context, topic event.TopicID, next []int64) (event.AckTotals, error) {
	var t event.AckTotals
	var oldest *time.Time
	err := p.pool.QueryRow(ctx, `
		select count(*), min(acked_at), coalesce(max(case when topic = $1 then (
			select sum(greatest(reached - coalesce(acked, 0), 0))
			from unnest($2::bigint[], acks.next) as t (reached, acked) where reached is not null) end), 0)::bigint
		from acks`, uuid.UUID(topic).String(), next).Scan(&t.Subscribers, &oldest, &t.MaxBehind)
	if oldest != nil {
		t.Oldest = *oldest
	}
	return t, fail("sum up acknowledgements", err)
}

func scanAck(row pgx.Row) (event.Ack, error) {
	var a event.Ack
	var topic [16]byte
	var at [4]int64
	err := row.Scan(&a.Subscriber, &a.At, &topic, &a.Cursor.Next, &a.Cursor.Issued, &at[0], &at[1], &at[2], &at[3])
	a.Cursor.Topic = topic
	a.Cursor.Addr = event.Address{Gateway: event.Gateway(at[0]), Seat: event.Seat(at[1])}
	a.Cursor.Old = event.Address{Gateway: event.Gateway(at[2]), Seat: event.Seat(at[3])}
	return a.Heal(time.Now()), err
}
