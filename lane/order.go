package lane

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"eventstream/auth"
	"eventstream/event"
)

// Order is what the API wants of gateways, at once. They have a stream of their
// own beside the control stream: gateways need not read each other's seats, nor
// filter services this.
type Order struct {
	Task       Task             `json:"task"`
	Subscriber string           `json:"subscriber,omitempty"` // TaskList, TaskClose: whose connections
	Address    *event.Address   `json:"address,omitempty"`    // or which one; only its gateway answers
	Revocation *auth.Revocation `json:"revocation,omitempty"` // TaskRevoke
	ReplyTo    string           `json:"reply_to,omitempty"`   // where the answer goes; "" if none is wanted
}

// Task is what to do. One that a gateway does not know it answers with nothing done.
type Task string

// The tasks.
const (
	TaskList   Task = "list"   // tell the connections
	TaskClose  Task = "close"  // end the connections, and tell which
	TaskRevoke Task = "revoke" // end those whose tokens are revoked
)

// Answer is what one gateway answers.
type Answer struct {
	Gateway     event.Gateway `json:"gateway"`
	Connections []Connection  `json:"connections"` // MaxAnswer at most
	Total       int           `json:"total"`
}

// MaxAnswer bounds the connections in one Answer.
const MaxAnswer = 1000

// Connection is an open connection.
type Connection struct {
	Seat       event.Seat `json:"seat"`
	Subscriber string     `json:"subscriber"`
	Opened     int64      `json:"opened"`            // Unix seconds
	Heard      int64      `json:"heard"`             // when something last came from the client, Unix seconds
	Expires    int64      `json:"expires,omitempty"` // when its token ends, Unix seconds; 0 if it has none
}

// concerns reports whether a gateway has to do something.
func (o *Order) concerns(g event.Gateway) bool { return o.Address == nil || o.Address.Gateway == g }

const (
	orderField = "o"
	maxOrders  = 1000             // that the stream keeps: those who follow it read them at once
	following  = 5 * time.Second  // a gateway counts as following so long after it said so
	answerKept = 10 * time.Second // for an API that died
)

func (r *Redis) ordersKey() string           { return r.key("{control}:orders") }
func (r *Redis) answersKey(id string) string { return r.key("{control}:answers:" + id) }
func (r *Redis) followingKey(g event.Gateway) string {
	return r.key("{control}:following:" + g.String())
}

// Tell gives an order to all gateways that follow orders now.
func (r *Redis) Tell(ctx context.Context, o Order) error {
	c, err := r.open(ctx)
	if err == nil {
		err = r.tell(ctx, c, o)
	}
	if err != nil {
		return fmt.Errorf("redis tell gateways: %w", err)
	}
	return nil
}

func (r *Redis) tell(ctx context.Context, c rueidis.Client, o Order) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return c.Do(ctx, c.B().Xadd().Key(r.ordersKey()).Maxlen().Almost().Threshold(strconv.Itoa(maxOrders)).
		Id("*").FieldValue().FieldValue(orderField, rueidis.BinaryString(b)).Build()).Error()
}

// Ask gives an order to all gateways that follow orders now, or to the one that
// it concerns, and returns what they answer within a time, and who did not.
func (r *Redis) Ask(ctx context.Context, o Order, wait time.Duration) (answers []Answer, silent []event.Gateway, err error) {
	c, err := r.open(ctx)
	if err == nil {
		silent, err = r.followers(ctx, c, o)
	}
	if err == nil && len(silent) > 0 {
		o.ReplyTo = rand.Text()
		err = r.tell(ctx, c, o)
	}
	for until := time.Now().Add(wait); err == nil && len(silent) > 0; {
		var a Answer
		a, err = r.answer(ctx, c, o.ReplyTo, max(time.Until(until), time.Millisecond))
		if rueidis.IsRedisNil(err) {
			return answers, silent, nil
		}
		if err == nil {
			answers = append(answers, a)
			silent = slices.DeleteFunc(silent, func(g event.Gateway) bool { return g == a.Gateway })
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("redis ask gateways: %w", err)
	}
	return answers, nil, nil
}

// followers returns the gateways that an order concerns and that will see it.
func (r *Redis) followers(ctx context.Context, c rueidis.Client, o Order) ([]event.Gateway, error) {
	all, err := r.Gateways(ctx)
	all = slices.DeleteFunc(all, func(g event.Gateway) bool { return !o.concerns(g) })
	if err != nil || len(all) == 0 {
		return nil, err
	}
	keys := make([]string, len(all))
	for i, g := range all {
		keys[i] = r.followingKey(g)
	}
	there, err := c.Do(ctx, c.B().Mget().Key(keys...).Build()).ToArray()
	if err != nil {
		return nil, err
	}
	var out []event.Gateway
	for i, g := range all {
		if i < len(there) && !there[i].IsNil() {
			out = append(out, g)
		}
	}
	return out, nil
}

func (r *Redis) answer(ctx context.Context, c rueidis.Client, id string, wait time.Duration) (a Answer, err error) {
	got, err := c.Do(ctx, c.B().Blpop().Key(r.answersKey(id)).Timeout(wait.Seconds()).Build()).AsStrSlice()
	if err != nil {
		return a, err
	}
	if len(got) != 2 {
		return a, fmt.Errorf("answer of %d values", len(got))
	}
	return a, json.Unmarshal([]byte(got[1]), &a)
}

// FollowOrders passes to do each order that concerns the gateway and is given
// from now on, one after the other, and sends back what do returns. It ends with
// nil when ctx ended, otherwise with the error of the connection. What is ordered
// while nobody follows is not caught up with.
func (r *Redis) FollowOrders(ctx context.Context, g event.Gateway, do func(Order) Answer) error {
	if err := r.followOrders(ctx, g, do); err != nil && ctx.Err() == nil {
		return fmt.Errorf("redis follow orders: %w", err)
	}
	return nil
}

func (r *Redis) followOrders(ctx context.Context, g event.Gateway, do func(Order) Answer) error {
	c, err := r.open(ctx)
	if err != nil {
		return err
	}
	master := addrOf(c)
	dc, _ := c.Dedicate()
	defer dc.Close()
	stop := context.AfterFunc(ctx, dc.Close) // as in tail
	defer stop()
	f := orderReader{Redis: r, client: c, dc: dc, gateway: g, last: "0-0"}
	defer f.leave()
	if err := f.begin(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		orders, err := f.read()
		if err == nil && !r.cluster && addrOf(c) != master {
			err = errMasterChanged
		}
		if err != nil {
			return err
		}
		for _, o := range orders {
			if err := f.obey(o, do); err != nil {
				return err
			}
		}
	}
	return nil
}

// orderReader is a gateway that follows orders.
type orderReader struct {
	*Redis
	client  rueidis.Client
	dc      rueidis.DedicatedClient
	gateway event.Gateway
	last    string // order read
}

// begin finds the end of the orders. Only then the gateway says that it follows:
// whoever sees that gives orders that come after it.
func (f *orderReader) begin() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	newest, err := f.dc.Do(ctx, f.dc.B().Xrevrange().Key(f.ordersKey()).End("+").Start("-").Count(1).Build()).ToArray()
	if err != nil || len(newest) == 0 {
		return err
	}
	f.last, _, err = streamEntry(&newest[0])
	return err
}

// read waits for orders, not for long, and says before that the gateway follows.
func (f *orderReader) read() ([]Order, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.cfg.Block+callTimeout)
	defer cancel()
	b := f.dc.B()
	results := f.dc.DoMulti(ctx,
		b.Set().Key(f.followingKey(f.gateway)).Value("1").Px(following).Build(),
		b.Xread().Block(f.cfg.Block.Milliseconds()).Streams().Key(f.ordersKey()).Id(f.last).Build())
	if err := results[0].Error(); err != nil {
		return nil, err
	}
	got, err := streams(results[1])
	if err != nil {
		return nil, err
	}
	entries := got[f.ordersKey()]
	var out []Order
	for i := range entries {
		id, fields, err := streamEntry(&entries[i])
		if err != nil {
			return nil, err
		}
		f.last = id
		_, value, err := firstField(fields)
		if err != nil {
			return nil, err
		}
		var o Order
		if err := json.Unmarshal(value, &o); err != nil {
			f.log.Error("order left out", "id", id, "err", err) // it will not get better
			continue
		}
		out = append(out, o)
	}
	return out, nil
}

func (f *orderReader) obey(o Order, do func(Order) Answer) error {
	if !o.concerns(f.gateway) {
		return nil
	}
	a := do(o)
	if o.ReplyTo == "" {
		return nil
	}
	a.Gateway = f.gateway
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	b, key := f.client.B(), f.answersKey(o.ReplyTo)
	_, err = pipeline(ctx, f.client.DoMulti,
		b.Rpush().Key(key).Element(rueidis.BinaryString(text)).Build(), expire(b, key, answerKept))
	return err
}

// leave says that the gateway does not follow any more; if that fails, it is
// forgotten in time.
func (f *orderReader) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	f.client.Do(ctx, f.client.B().Del().Key(f.followingKey(f.gateway)).Build())
}
