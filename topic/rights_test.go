package topic

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"eventstream/internal/testenv"
)

// may is a right to topic events, or another one.
func may(op kmsg.ACLOperation, name string) kfake.ACL {
	return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
}

// limited starts a broker where user u has certain rights. It returns his configuration, and
// that of somebody who may do everything.
func limited(t *testing.T, rights ...kfake.ACL) (user, root Config) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "root", "x"), kfake.User("PLAIN", "u", "x", rights...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	of := func(name string) Config {
		return Config{Brokers: c.ListenAddrs(), Partitions: 1, Access: Access{SASL: plain.Auth{User: name, Pass: "x"}.AsMechanism(), User: name}}
	}
	return of("u"), of("root")
}

// What exists is not made, so that no right to make it is needed.
func TestEnsureWithFewRights(t *testing.T) {
	t.Parallel()
	user, root := limited(t, may(kmsg.ACLOperationRead, "events"), may(kmsg.ACLOperationWrite, "events.dlq"))
	want, err := Ensure(t.Context(), root, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	log := newLogBuffer()
	if got, err := Ensure(t.Context(), user, log.Logger); err != nil || got != want || log.String() != "" {
		t.Errorf("got %+v, %v, want %+v; said: %s", got, err, want, log.String())
	}
}

// Without the right to make the topic, we wait for somebody who has it. Without a dead
// letter topic we go on, and say so.
func TestEnsureMayNotMake(t *testing.T) {
	t.Parallel()
	user, root := limited(t, may(kmsg.ACLOperationRead, "events"), may(kmsg.ACLOperationDescribe, "events.dlq"))
	log := newLogBuffer()
	result := make(chan error, 1)
	go func() {
		_, err := Ensure(t.Context(), user, log.Logger)
		result <- err
	}()
	says := func(what string) {
		t.Helper()
		testenv.Eventually(t, patience, func() error {
			if !strings.Contains(log.String(), what) {
				return errors.New("not said: " + what + " in " + log.String())
			}
			return nil
		})
	}
	says("topic events: UNKNOWN_TOPIC_OR_PARTITION: This server does not host this topic-partition., and denied by Kafka: the right CREATE on it is missing")
	root.NoDeadLetters = true
	if _, err := Ensure(t.Context(), root, testenv.Log(t)); err != nil {
		t.Fatal(err)
	}
	if err := within(t, result, "answer"); err != nil {
		t.Errorf("Ensure: %v", err)
	}
	says("can't be kept as dead letters")
}

// Without the right to see the topic, nothing else helps.
func TestEnsureMayNotSee(t *testing.T) {
	t.Parallel()
	user, root := limited(t)
	if _, err := Ensure(t.Context(), root, testenv.Log(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(t.Context(), user, testenv.Log(t)); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "the right DESCRIBE on it is missing") {
		t.Errorf("got %v, want %v", err, ErrDenied)
	}
}

// That a dead letter may not be written is told from a Kafka that is down, also where
// there is no topic for it, unless somebody is to make that.
func TestDeadLetterDenied(t *testing.T) {
	t.Parallel()
	describe, write := may(kmsg.ACLOperationDescribe, "events.dlq"), may(kmsg.ACLOperationWrite, "events.dlq")
	for name, tt := range map[string]struct {
		rights   []kfake.ACL
		there    bool // the topic
		noCreate bool
		denied   bool
	}{
		"no right":                    {nil, true, false, true},
		"may look":                    {[]kfake.ACL{describe}, true, false, true},
		"may write":                   {[]kfake.ACL{write}, true, false, false},
		"no topic, and may not make":  {[]kfake.ACL{write}, false, false, true},
		"no topic, but somebody will": {[]kfake.ACL{write}, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user, root := limited(t, tt.rights...)
			root.NoDeadLetters, user.NoCreate = !tt.there, tt.noCreate
			if _, err := Ensure(t.Context(), root, testenv.Log(t)); err != nil {
				t.Fatal(err)
			}
			p, err := NewProducer(user, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for range 2 {
				err = deadLetter(ctx, p, &kgo.Record{Topic: "events", Value: []byte("x"), Timestamp: time.Now()})
				if errors.Is(err, ErrDenied) != tt.denied || tt.there && !tt.denied && err != nil {
					t.Errorf("got %v, want denied: %t", err, tt.denied)
				}
			}
		})
	}
}
