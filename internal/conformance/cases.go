// Package conformance plays to a client what it may meet: drops, close codes, refusals, gaps,
// repeats, tokens that end, a server that falls silent. It then judges what the client did.
// The cases are data, so that clients in all languages run the same ones.
//
// A client's test asks for GET /cases, and connects for each case to
// ws://host/<case>/<run>/ws or http://host/<case>/<run>/sse, where <run> is any text that was not
// used before. When it has what Want says, or has ended, it sends what it saw, a Result, by POST to
// /<case>/<run>/result. The answer is 200, or 422 with a Verdict that says what was wrong.
package conformance

import (
	_ "embed"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

//go:embed cases.yaml
var casesText []byte

// Case is one situation. cases.yaml says what the fields mean.
type Case struct {
	Name        string       `yaml:"name" json:"name"`
	About       string       `yaml:"about" json:"about"`
	Only        string       `yaml:"only" json:"only,omitempty"` // "ws" or "sse"; both if empty
	Client      Client       `yaml:"client" json:"client"`
	Refused     bool         `yaml:"-" json:"refused,omitempty"` // by an HTTP status, which browsers hide from pages that open a WebSocket
	Connections []Connection `yaml:"connections" json:"-"`
	Want        Want         `yaml:"want" json:"want"`
}

// Client is how the client is made.
type Client struct {
	Durable bool   `yaml:"durable" json:"durable,omitempty"`
	Since   string `yaml:"since" json:"since,omitempty"`
	Token   bool   `yaml:"token" json:"token,omitempty"` // it is asked for a token before each connection, and gives token-1, token-2, …
	Ack     string `yaml:"ack" json:"ack,omitempty"`     // "auto": what was handled is acknowledged by itself
}

// Connection is what happens when the client connects.
type Connection struct {
	Query map[string]any `yaml:"query"` // values of parameters; "" for none, "*" for any
	Token string         `yaml:"token"`
	After int            `yaml:"after"` // ms since the last connection ended, at least
	Steps []Step         `yaml:"steps"`
}

// Step is one thing that the server does; one field is set.
type Step struct {
	Send   map[string]any `yaml:"send"`
	Parts  int            `yaml:"parts"` // of Send: frames
	Close  *Close         `yaml:"close"`
	Answer *Answer        `yaml:"answer"`
	Expect map[string]any `yaml:"expect"`
	Drop   bool           `yaml:"drop"`
	End    bool           `yaml:"end"`
	Hold   bool           `yaml:"hold"`
	Quiet  bool           `yaml:"quiet"`
}

// Close is a close frame, or its like in a stream.
type Close struct {
	Code   int    `yaml:"code"`
	Reason string `yaml:"reason"`
}

// Answer refuses a connection.
type Answer struct {
	Status     int `yaml:"status"`
	RetryAfter int `yaml:"retry_after"` // seconds
}

// Want is what the program that uses the client has to see.
type Want struct {
	Events      []string `yaml:"events" json:"events,omitempty"`           // ids, in order
	Gaps        []string `yaml:"gaps" json:"gaps,omitempty"`               // reasons
	Error       string   `yaml:"error" json:"error,omitempty"`             // with which the client ends by itself
	Connections int      `yaml:"connections" json:"connections,omitempty"` // that it may try in all; any number if 0
	LeastMs     int      `yaml:"least_ms" json:"least_ms,omitempty"`       // from the first connection to the last
}

// Result is what the program saw.
type Result struct {
	Events []string `json:"events"`
	Gaps   []string `json:"gaps"`
	Error  string   `json:"error"`
}

// Cases returns all cases.
func Cases() ([]Case, error) {
	var all []Case
	if err := yaml.Unmarshal(casesText, &all); err != nil {
		return nil, fmt.Errorf("cases.yaml: %w", err)
	}
	for i := range all {
		all[i].Refused = slices.ContainsFunc(all[i].Connections, func(c Connection) bool {
			return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Answer != nil })
		})
	}
	return all, nil
}
