package replay

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"eventstream/internal/redact"
	"eventstream/internal/trouble"
)

const (
	// openTimeout bounds the wait for an answer: a service may first give
	// gateways time to announce themselves.
	openTimeout = 10 * time.Second
	// silence is after how long without a word a Stream counts as dead. The
	// service says something every second.
	silence = 30 * time.Second
	// maxHomes bounds of how many subscribers a Client remembers who serves them.
	maxHomes = 100_000
)

// Client asks filter services. It is safe for concurrent use.
type Client struct {
	urls     []string
	explains []string // where a service answers a Question
	names    []string // of the services, for people
	secrets  Secrets
	http     *http.Client
	opening  time.Duration // for a connection, and an answer up to its stream
	silence  time.Duration
	trouble  *trouble.Trouble // of requests that no service served

	mu    sync.Mutex
	turn  int
	homes map[string]int // the place in urls of who serves a subscriber, if another didn't
}

// NewClient returns a Client of the services at these base URLs, such as
// http://filter:8002. It does no I/O.
func NewClient(urls []string, secrets Secrets, log *slog.Logger) (*Client, error) {
	c := &Client{
		secrets: secrets, opening: openTimeout + 5*time.Second, silence: silence, homes: make(map[string]int),
		trouble: trouble.New(log, "no filter service replays; clients are told to try again", "filter services replay again"),
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
				TLSHandshakeTimeout:   2 * time.Second,
				ResponseHeaderTimeout: openTimeout,
				IdleConnTimeout:       5 * time.Second, // services close theirs after 10
				MaxIdleConnsPerHost:   16,
				DisableCompression:    true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	for n, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("filter service %d of %d: want a URL such as http://127.0.0.1:8002", n+1, len(urls))
		}
		c.urls = append(c.urls, u.JoinPath("replay").String())
		c.explains = append(c.explains, u.JoinPath("explain").String())
		c.names = append(c.names, u.Host)
	}
	if len(c.urls) == 0 {
		return nil, errors.New("no filter service is named: want a URL such as http://127.0.0.1:8002")
	}
	return c, nil
}

// Open asks the services in turn until one serves the request. If none does, the
// error is an *Unavailable, which is ErrUnavailable. A request that no service
// would serve is refused as ErrRequest, ErrOtherTopic or ErrBeyondEnd. The Stream
// ends with ctx.
func (c *Client) Open(ctx context.Context, r Request) (*Stream, error) {
	body, err := r.encode()
	if err != nil {
		return nil, err
	}
	un := &Unavailable{}
	elsewhere := false
	for _, i := range c.order(r.Subscriber) {
		s, err := c.ask(ctx, c.urls[i], body)
		switch {
		case err == nil:
			c.trouble.Worked()
			c.remember(r.Subscriber, i, elsewhere)
			return s, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("ask for a replay: %w", context.Cause(ctx))
		case isFinal(err):
			return nil, err
		}
		elsewhere = elsewhere || errors.Is(err, ErrElsewhere)
		un.add(fmt.Errorf("%s: %w", c.names[i], err))
	}
	c.trouble.Failed(un)
	return nil, un
}

func isFinal(err error) bool {
	return errors.Is(err, ErrRequest) || errors.Is(err, ErrOtherTopic) || errors.Is(err, ErrBeyondEnd)
}

// order returns whom to ask: who served the subscriber before, then the others,
// beginning with another one each time.
func (c *Client) order(subscriber string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	home, known := c.homes[subscriber]
	order := make([]int, 0, len(c.urls))
	if known {
		order = append(order, home)
	}
	for i := range c.urls {
		if at := (c.turn + i) % len(c.urls); !known || at != home {
			order = append(order, at)
		}
	}
	c.turn = (c.turn + 1) % len(c.urls)
	return order
}

// remember notes who served a subscriber, where that is not everybody.
func (c *Client) remember(subscriber string, i int, elsewhere bool) {
	if !elsewhere {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.homes {
		if len(c.homes) < maxHomes {
			break
		}
		delete(c.homes, old)
	}
	c.homes[subscriber] = i
}

func (c *Client) ask(ctx context.Context, url string, body []byte) (*Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	c.secrets.show(req.Header)
	// The transport's bounds leave out the time to send the request, and that for the
	// body of a refusal.
	watch := time.AfterFunc(c.opening, func() { cancel(errSilent) })
	defer watch.Stop()
	resp, err := c.http.Do(req)
	if err != nil {
		defer cancel(nil)
		return nil, redact.Error(cmp.Or(context.Cause(ctx), err))
	}
	if resp.StatusCode != http.StatusOK {
		defer cancel(nil)
		defer resp.Body.Close()
		return nil, refusalOf(resp)
	}
	watch.Stop()
	s := &Stream{ctx: ctx, cancel: cancel, body: resp.Body, silence: c.silence, frames: frames{r: bufio.NewReaderSize(resp.Body, 32<<10)}}
	if err := s.patiently(s.frames.open); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// refusalOf returns the error that an answer stands for.
func refusalOf(resp *http.Response) error {
	var p problem
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		p.Detail = "answered " + resp.Status
	}
	for _, k := range kinds {
		if k.status == resp.StatusCode && k.err == ErrUnavailable {
			seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return &busy{text: p.Detail, retryAfter: time.Duration(max(0, seconds)) * time.Second}
		} else if k.status == resp.StatusCode {
			return fmt.Errorf("%w: %s", k.err, p.Detail)
		}
	}
	return errors.New(p.Detail)
}

// busy is a service's word that it doesn't serve now.
type busy struct {
	text       string
	retryAfter time.Duration
}

func (b *busy) Error() string { return b.text }

// Unavailable says why no service served a request.
type Unavailable struct {
	RetryAfter time.Duration // when to try again; 0 if no service said
	reasons    []error
}

func (u *Unavailable) add(err error) {
	u.reasons = append(u.reasons, err)
	if b, ok := errors.AsType[*busy](err); ok && (u.RetryAfter == 0 || b.retryAfter < u.RetryAfter) {
		u.RetryAfter = b.retryAfter
	}
}

func (u *Unavailable) Error() string {
	return fmt.Sprintf("%v: %v", ErrUnavailable, errors.Join(u.reasons...))
}

// Is makes an Unavailable ErrUnavailable.
func (u *Unavailable) Is(target error) bool { return target == ErrUnavailable }

// Stream is the answer to a Request. It serves one goroutine.
type Stream struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	body    io.ReadCloser
	silence time.Duration
	frames  frames
	err     error // for good
}

// From returns the first offset by partition, as the service understood the request.
func (s *Stream) From() []int64 { return s.frames.head.from }

// To returns the offset to stop before, by partition.
func (s *Stream) To() []int64 { return s.frames.head.to }

// Lost returns what is lost from the start: it is below From.
func (s *Stream) Lost() []Lost { return s.frames.head.lost }

// Next returns the next Batch, which is valid until the next call. It fails with
// io.EOF when all has been passed on, and with any other error when the Stream
// broke off.
func (s *Stream) Next() (b Batch, err error) {
	if s.err == nil {
		s.err = s.patiently(func() error {
			b, err = s.frames.batch()
			return err
		})
	}
	return b, s.err
}

var errSilent = errors.New("the filter service has said nothing for too long")

// patiently bounds how long read may wait.
func (s *Stream) patiently(read func() error) error {
	watch := time.AfterFunc(s.silence, func() { s.cancel(errSilent) })
	defer watch.Stop()
	err := read()
	if cause := context.Cause(s.ctx); err != nil && err != io.EOF && cause != nil {
		return fmt.Errorf("read a replay: %w", cause)
	}
	return err
}

// Close ends the Stream. It may be called at any time, also from another goroutine.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	s.body.Close()
}
