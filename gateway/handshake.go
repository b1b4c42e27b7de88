package gateway

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/framing"
	"eventstream/gateway/socket"
	"eventstream/internal/defect"
	"eventstream/internal/ops"
	"eventstream/lane"
	"eventstream/replay"
	"eventstream/wire"
)

// refusal is an HTTP answer instead of an upgrade.
type refusal struct {
	status     int
	code       string // stable, for programs
	detail     string // for people
	header     string // of an extra response header, with value
	value      string
	retryAfter int // seconds; 0 for none
}

func badRequest(code, format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: code, detail: fmt.Sprintf(format, args...)}
}

func unavailable(format string, args ...any) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "unavailable", detail: fmt.Sprintf(format, args...), retryAfter: 1}
}

// serveWS upgrades a request to a WebSocket, or says why not.
func (g *Gateway) serveWS(w http.ResponseWriter, r *http.Request) {
	if refused := g.upgrade(w, r); refused != nil {
		g.metrics.refused.WithLabelValues(strconv.Itoa(refused.status)).Inc()
		refused.write(w)
	}
}

func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	if r.header != "" {
		h.Set(r.header, r.value)
	}
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Connection", "close")
	w.WriteHeader(r.status)
	body := json.NewEncoder(w)
	body.SetEscapeHTML(false) // people read it, and browsers don't take it for a page
	body.Encode(map[string]any{
		"type":   "urn:eventstream:problem:" + strings.ReplaceAll(r.code, "_", "-"),
		"title":  http.StatusText(r.status),
		"status": r.status,
		"detail": r.detail,
	})
}

// upgrade does everything that can fail with a clear answer before it hijacks
// the connection: a client that is upgraded is announced already.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request) *refusal {
	key, refused := checkUpgrade(r)
	if refused != nil {
		return refused
	}
	if refused := g.checkOrigin(r); refused != nil {
		return refused
	}
	how, extensions := framing.WebSocket, ""
	if g.cfg.Compress {
		if extensions = framing.AcceptDeflate(r.Header); extensions != "" {
			how = framing.Deflated
		}
	}
	q, refused := parseQuery(r, params)
	if refused != nil {
		return refused
	}
	return g.enter(w, r, q, how, func(d door) []byte { return switching(key, d.protocol, extensions) })
}

// enter lets the client in whose request is right in itself, and which asks for
// what the query says. Its answer comes with the connection's first message. What
// costs little to refuse is refused first, and counts for nothing: see rates.
func (g *Gateway) enter(w http.ResponseWriter, r *http.Request, q url.Values, f framing.Kind, answer func(door) []byte) *refusal {
	door, refused := g.shown(r)
	if refused != nil {
		return refused
	}
	ask, refused := g.parseAsk(q)
	if refused != nil {
		return refused
	}
	from := g.address(r)
	if refused := g.identify(r.Context(), q, &door, from); refused != nil {
		return refused
	}
	ask.subscriber, ask.expires, ask.pass = door.subscriber, door.expires, door.pass
	ask.framing, ask.address = f, from.crowd
	if err := g.checkReach(ask.issued, ask.subscriber); err != nil {
		return badRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	if refused := g.admit(ask); refused != nil {
		return refused
	}
	defer g.admitted.Done()
	ctx, cancel := context.WithTimeout(r.Context(), g.timeout)
	defer cancel()
	e, err := g.join(ctx, ask)
	if err != nil {
		g.log.Debug("join failed", "err", err)
		return refusalOf(err)
	}
	if err := g.takeOver(w, e.conn); err != nil {
		e.conn.shard.post(post{conn: e.conn, what: verbClosed})
		g.log.Debug("upgrade failed", "err", err)
		return nil // who is there was told
	}
	g.welcome(e, answer(door))
	return nil
}

// refusalOf says why a client can't join now.
func refusalOf(err error) *refusal {
	switch {
	case errors.Is(err, replay.ErrBeyondEnd):
		return badRequest("bad_cursor", "the cursor is of events that do not exist yet; pass one that the gateway sent, unchanged")
	case errors.Is(err, event.ErrSeen):
		return badSeen(err)
	case errors.Is(err, errBadAck):
		return badRequest("bad_ack", "what was acknowledged is of events that do not exist yet; the operator can have it forgotten, by DELETE /subscribers/{id}/ack of the API")
	case errors.Is(err, replay.ErrUnavailable):
		refused := unavailable("what was missed can't be replayed from Kafka at the moment; try again")
		if un, ok := errors.AsType[*replay.Unavailable](err); ok {
			refused.retryAfter = max(1, int(un.RetryAfter.Seconds()))
		}
		return refused
	case errors.Is(err, errPartitions):
		return unavailable("the cursor is of more partitions than are known here; try again, or pass one that the gateway sent, unchanged")
	case errors.Is(err, errAcks):
		return unavailable("what was acknowledged can't be read or saved now; try again")
	}
	return unavailable("the store does not take the connection now; try again")
}

// ask is what a client wants.
type ask struct {
	subscriber string
	cursor     *event.Cursor // with what it has seen since; nil: from since, or from now on
	text       string        // cursor as it came
	issued     *event.Cursor // the same, without
	seen       []int64       // since that, as positions; nil if it does not say
	since      time.Time     // zero if it has a cursor, or wants nothing earlier
	durable    bool          // without a cursor, go on from what was acknowledged
	address    string        // it is counted by; empty if addresses are not counted
	expires    int64         // when its token ends, Unix seconds; 0 if it has none
	pass       auth.Pass     // of its token
	framing    framing.Kind
	maxMessage uint32 // bytes, as it says; 0 if it does not
}

// parseAsk reads what a client wants, whoever it is.
func (g *Gateway) parseAsk(q url.Values) (ask, *refusal) {
	a := ask{text: q.Get("cursor")}
	var refused *refusal
	if a.since, refused = g.parseSince(q); refused != nil {
		return a, refused
	}
	if a.maxMessage, refused = parseMaxMessage(q); refused != nil {
		return a, refused
	}
	switch durable := q.Get("durable"); {
	case durable == "true" && g.acks.store == nil:
		return a, badRequest("not_durable", "query parameter durable: this gateway has no database to keep acknowledgements in")
	case durable != "" && durable != "true" && durable != "false":
		return a, badRequest("bad_durable", "query parameter durable: %.40q; allowed are true and false", durable)
	default:
		a.durable = durable == "true"
	}
	seen := q.Get("seen")
	if a.text == "" && seen != "" {
		return a, badRequest("bad_seen", "query parameter seen: want it beside the cursor since which these events came")
	}
	if a.text == "" {
		return a, nil
	}
	c, err := parseCursor(a.text)
	if err != nil {
		return a, badRequest("bad_cursor", "query parameter cursor: %v; pass one that the gateway sent, unchanged, or none", err)
	}
	a.cursor, a.issued = c, c
	if seen != "" && !defect.On(defect.SeenIgnored) {
		if err := a.saw(seen); err != nil {
			return a, badSeen(err)
		}
	}
	return a, nil
}

// parseSince reads from when on a client wants its events: a time, or how long ago.
func (g *Gateway) parseSince(q url.Values) (time.Time, *refusal) {
	text := q.Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	if q.Get("cursor") != "" {
		return time.Time{}, badRequest("bad_since", "query parameters since and cursor: want one of them")
	}
	if g.replayer == nil {
		return time.Time{}, badRequest("no_replay", "query parameter since: this gateway knows no filter service that could replay")
	}
	const want = "want a time such as 2026-01-02T03:04:05Z, or how long ago, such as 1h30m"
	now := time.Now()
	ago, err := time.ParseDuration(text)
	since := now.Add(-ago)
	if err != nil {
		since, err = time.Parse(time.RFC3339, text)
	}
	switch {
	case err != nil:
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q; %s", text, want)
	case since.After(now):
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q is in the future; %s", text, want)
	case since.Year() < 1970:
		return time.Time{}, badRequest("bad_since", "query parameter since: %.60q is before 1970; %s", text, want)
	}
	return since, nil
}

// Names of headers in net/http's spelling: in RFC 6455's each look-up would have to
// bring them into that first.
const (
	headerVersion  = "Sec-Websocket-Version"
	headerKey      = "Sec-Websocket-Key"
	headerProtocol = "Sec-Websocket-Protocol"
)

// checkUpgrade checks the opening handshake (RFC 6455 section 4.2.1) and returns
// the client's key.
func checkUpgrade(r *http.Request) (key string, refused *refusal) {
	upgradeNeeded := func(detail string) *refusal {
		return &refusal{
			status: http.StatusUpgradeRequired, code: "upgrade_required", header: "Upgrade", value: "websocket",
			detail: detail + "; this is a WebSocket endpoint: try websocat or wscat with ws://…/ws?subscriber_id=<id>",
		}
	}
	switch {
	case r.Method != http.MethodGet:
		return "", &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", header: "Allow", value: "GET", detail: r.Method + " is not allowed; use GET"}
	case !r.ProtoAtLeast(1, 1):
		return "", badRequest("bad_handshake", "HTTP/1.1 is needed, not %s", r.Proto)
	case !headerHas(r.Header, "Upgrade", "websocket"):
		return "", upgradeNeeded("header Upgrade: websocket is missing")
	case !headerHas(r.Header, "Connection", "upgrade"):
		return "", upgradeNeeded("header Connection: Upgrade is missing")
	case r.Header.Get(headerVersion) != "13":
		return "", &refusal{
			status: http.StatusUpgradeRequired, code: "bad_version", header: "Sec-WebSocket-Version", value: "13",
			detail: fmt.Sprintf("Sec-WebSocket-Version %.20q is not supported; 13 is", r.Header.Get(headerVersion)),
		}
	}
	key = r.Header.Get(headerKey)
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", badRequest("bad_handshake", "Sec-WebSocket-Key: want 16 bytes in base64")
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return "", badRequest("bad_handshake", "a body is not allowed")
	}
	return key, nil
}

// headerHas reports whether a comma-separated header has the token, in any case.
func headerHas(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for v := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), token) {
				return true
			}
		}
	}
	return false
}

// admit counts a handshake and its connection in, if the gateway can take it.
// The caller calls admitted.Done; join counts the connection out.
func (g *Gateway) admit(a ask) *refusal {
	g.admitMu.Lock()
	defer g.admitMu.Unlock()
	if g.phase >= phaseEmptying {
		return unavailable("this gateway is stopping")
	}
	if reason := g.unready(); reason != "" {
		return unavailable("%s", reason)
	}
	if g.full() {
		return unavailable("%v", g.errFull())
	}
	if refused := g.crowds.enterLocked(a, g.cfg); refused != nil {
		return refused
	}
	g.open.Add(1)
	g.admitted.Add(1)
	return nil
}

// entrance is a connection that is announced and not open yet.
type entrance struct {
	conn    *conn
	ask     ask
	first   bool // it is durable, and has never acknowledged anything
	rescan  bool // Kafka is asked for all that it missed
	at      lane.ControlID
	gap     string // reason, if what was asked for can't be had in full
	missing []wire.Missing
	ctx     context.Context // of the replay: ends with the connection
	old     event.Address   // resumed from
	from    []int64         // where it goes on, by partition; nil if it does not resume
	floor   []int64         // what is live begins here; nil if with its seat
	stream  *stream         // to be sent first, up to until; nil if Kafka is not needed
	until   []int64
	spans   []span // of the lanes, to be sent then
}

// join announces a seat for the client. If it fails, the connection is counted
// out.
func (g *Gateway) join(ctx context.Context, a ask) (*entrance, error) {
	a.subscriber = strings.Clone(a.subscriber) // without the request that it is a part of
	c := &conn{framing: a.framing, maxMessage: a.maxMessage, subscriber: a.subscriber, address: a.address, pass: a.pass, reader: g.reader(a.subscriber), last: event.ID{Partition: -1}}
	e := &entrance{conn: c, ask: a}
	err := c.reader.started(ctx)
	if err == nil {
		err = g.origin(ctx, e)
	}
	if err == nil {
		c.seat, err = g.presence.reserve(a.subscriber)
	}
	if err != nil {
		g.countOut(c)
		return nil, err
	}
	if c.resume != nil || e.rescan || e.gap == wire.GapUnknownAddress {
		e.ctx, c.stopReplay = context.WithCancel(g.replayCtx)
	}
	c.heard.Store(uptimeSeconds())
	c.expires.Store(a.expires)
	c.shard = g.shards[int(c.seat)%len(g.shards)]
	live, now := c.reader.join(c) // from here on the shard counts it out
	e.at, err = g.presence.announce(ctx, lane.Seated{Seat: c.seat, Subscriber: a.subscriber})
	if err == nil {
		err = g.prepare(ctx, e, live, now)
	}
	if err != nil {
		c.shard.post(post{conn: c, what: verbClosed})
		return nil, err
	}
	return e, nil
}

// errSeatLost reports that the gateway gave up its seats while a client joined.
var errSeatLost = errors.New("the gateway was cut off from the store while the client joined")

// origin finds out where the client goes on.
func (g *Gateway) origin(ctx context.Context, e *entrance) (err error) {
	if e.ask.durable {
		last, err := g.acks.last(ctx, e.ask.subscriber)
		if err != nil {
			return err
		}
		e.first = last == nil
		if e.ask.cursor == nil && e.ask.since.IsZero() {
			e.ask.cursor = last
		}
	}
	if e.ask.cursor == nil {
		e.rescan = !e.ask.since.IsZero()
		return nil
	}
	if err := g.came(ctx, e); err != nil {
		return err
	}
	e.conn.resume, e.gap, err = g.resumable(ctx, e.ask)
	if e.gap == wire.GapUnknownAddress && g.replayer != nil {
		e.gap, e.rescan = "", true
	}
	if e.conn.resume != nil {
		e.old = e.conn.resume.old
	}
	return err
}

// prepare plans what is to be sent before what is live.
func (g *Gateway) prepare(ctx context.Context, e *entrance, live, now []int64) (err error) {
	switch {
	case e.ask.cursor == nil && !e.rescan && now != nil:
		e.floor, live = now, now // filter services are behind: what they have yet to match is not news
	case e.conn.resume != nil:
		err = g.plan(ctx, e, live)
	case e.rescan:
		err = g.rescan(ctx, e)
	case e.gap == wire.GapUnknownAddress:
		err = g.forgotten(ctx, e)
	}
	if err == nil && e.first {
		err = g.acks.first(ctx, e, live)
	}
	return err
}

// forgotten finds out what is missing for a cursor that can't be resumed. What has
// been matched already, without knowing our seat, may yet come into the lanes: so
// that reaches up to the floor.
func (g *Gateway) forgotten(ctx context.Context, e *entrance) error {
	floor, err := g.floor(ctx, e)
	if err != nil {
		return err
	}
	e.floor, e.from = floor, floor
	e.missing = between(e.ask.cursor.Next, floor)
	return nil
}

// floor waits for where on everything is surely addressed to e's own seat. A
// cursor may come from a gateway that is ahead of us.
func (g *Gateway) floor(ctx context.Context, e *entrance) ([]int64, error) {
	floor, err := e.conn.reader.settled(ctx, e.at)
	if err != nil {
		return nil, err
	}
	if cur := e.ask.cursor; cur != nil {
		return highest(floor, cur.Next), nil
	}
	return slices.Clone(floor), nil
}

// between returns what lies between two positions.
func between(from, to []int64) (m []wire.Missing) {
	for p := range to {
		if from := offsetIn(from, int32(p)); from < to[p] {
			m = append(m, wire.Missing{Partition: int32(p), From: from, To: to[p]})
		}
	}
	return m
}

// takeOver hands the socket to an engine. The handshake is not answered yet:
// the shard's worker does that together with hello, so that nothing can come
// before it.
func (g *Gateway) takeOver(w http.ResponseWriter, c *conn) error {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("hijack: %w", err)
	}
	if buf.Reader.Buffered() > 0 {
		nc.Close()
		return errors.New("client sent frames before the handshake was answered")
	}
	unacked := time.Duration(0)
	if c.framing == framing.EventStream {
		unacked = time.Duration(g.deadSeconds()) * time.Second
	}
	socket.Tune(nc, unacked)
	engine := g.pollers
	if !socket.Pollable(nc) {
		engine = g.threads
	}
	err = engine.Add(nc, c)
	g.sockets.Saw(err)
	if err != nil {
		g.metrics.refused.WithLabelValues("503").Inc()
		var head []byte
		if c.framing == framing.EventStream {
			head = []byte(eventStreamType)
		}
		ops.Refuse(nc, head)
	}
	return err
}

// switching is the answer to a good handshake. protocol and extensions may be empty.
func switching(key, protocol, extensions string) []byte {
	if protocol != "" {
		protocol = "\r\nSec-WebSocket-Protocol: " + protocol
	}
	if extensions != "" {
		extensions = "\r\nSec-WebSocket-Extensions: " + extensions
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + protocol + extensions + "\r\n\r\n")
}
