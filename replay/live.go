package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"eventstream/filter"
	"eventstream/internal/redact"
	"eventstream/internal/trouble"
)

// Question asks a filter service what it has in memory of a subscriber's filters, and
// which of them match an event.
type Question struct {
	Subscriber string          `json:"subscriber"`
	Event      json.RawMessage `json:"event"`
	After      filter.ID       `json:"after,omitempty"` // of filters with higher IDs
	UpTo       filter.ID       `json:"up_to,omitempty"` // and not higher than this
}

// Live is what one filter service has in memory.
type Live struct {
	Service   string       `json:"service"` // host:port
	Shard     string       `json:"shard,omitempty"`
	Seats     int          `json:"seats"`     // of the subscriber's connections, and of those that can be resumed
	Addressed bool         `json:"addressed"` // such an event goes to them
	Waits     string       `json:"waits,omitempty"`
	Filters   []LiveFilter `json:"filters"`
	More      bool         `json:"more,omitempty"`  // there are more filters than are told
	Error     string       `json:"error,omitempty"` // why the rest is not known
}

// LiveFilter is a filter in memory.
type LiveFilter struct {
	ID       filter.ID `json:"id"`
	Revision int64     `json:"revision"`
	Matches  bool      `json:"matches"`
}

const (
	maxQuestion  = 1 << 20
	maxLive      = 4 << 20         // bytes of an answer
	liveTimeout  = 3 * time.Second // for one service's
	maxQuestions = 32              // services that are asked at once
)

// LiveHandler serves Questions of those who know a secret.
func LiveHandler(serve func(context.Context, Question) (Live, error), secrets Secrets, log *slog.Logger) http.Handler {
	broken := trouble.NewError(log, "explaining what is in memory failed", "explaining what is in memory works again")
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !secrets.admit(req.Header) { // before anything of the body is read
			hangUp(w)
			refuse(w, ErrDenied, broken)
			return
		}
		answer, err := serveQuestion(w, req, serve)
		if err != nil {
			refuse(w, err, broken)
			return
		}
		broken.Worked()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	})
}

func serveQuestion(w http.ResponseWriter, req *http.Request, serve func(context.Context, Question) (Live, error)) (a Live, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxQuestion))
	if err != nil {
		hangUp(w)
		return a, fmt.Errorf("%w: body: %w", ErrRequest, err)
	}
	var q Question
	if err := json.Unmarshal(body, &q); err != nil {
		return a, fmt.Errorf("%w: want a JSON object with subscriber, event, after and up_to: %s", ErrRequest, plain(err))
	}
	if err := filter.CheckSubscriberID(q.Subscriber); err != nil {
		return a, fmt.Errorf("%w: subscriber: %w", ErrRequest, err)
	}
	return serve(req.Context(), q)
}

// Explain asks all services. Those of other shards are left out. If none answers, the
// error is an *Unavailable.
func (c *Client) Explain(ctx context.Context, q Question) ([]Live, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	answers, errs := make([]Live, len(c.explains)), make([]error, len(c.explains))
	places := make(chan struct{}, maxQuestions)
	var asked sync.WaitGroup
	for i, url := range c.explains {
		asked.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			answers[i], errs[i] = c.question(ctx, url, body)
		})
	}
	asked.Wait()
	un, out := &Unavailable{}, []Live{}
	answered := false
	for i, a := range answers {
		err := errs[i]
		if err != nil {
			un.add(fmt.Errorf("%s: %w", c.names[i], err))
			a = Live{Error: err.Error(), Filters: []LiveFilter{}}
		}
		answered = answered || err == nil
		if a.Service = c.names[i]; !errors.Is(err, ErrElsewhere) {
			out = append(out, a)
		}
	}
	if !answered {
		return nil, un
	}
	return out, nil
}

func (c *Client) question(ctx context.Context, url string, body []byte) (a Live, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	c.secrets.show(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		return a, redact.Error(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return a, errors.New("this filter service is older, and can't tell")
	}
	if resp.StatusCode != http.StatusOK {
		return a, refusalOf(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLive))
	if err != nil {
		return a, redact.Error(err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("its answer can't be read: %s", plain(err))
	}
	if a.Filters == nil {
		a.Filters = []LiveFilter{}
	}
	return a, nil
}
