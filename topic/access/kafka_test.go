package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"eventstream/internal/testenv"
	"eventstream/topic"
)

// A real Kafka lets us in by each mechanism, and says why it does not.
func TestKafka(t *testing.T) {
	t.Parallel()
	kafka := testenv.KafkaServerSecure(t, "ada")
	ca, certFile, keyFile := kafka.CA, kafka.Cert, kafka.Key
	otherCert, otherKey := testenv.Certificate(t, t.TempDir(), 2)
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, unsigned("ada", time.Minute))
	expired := filepath.Join(t.TempDir(), "expired")
	write(t, expired, unsigned("ada", -time.Minute))
	const right = testenv.KafkaPassword
	table := map[string]struct {
		cfg   Config
		want  string // of what is said; nothing if empty
		final bool   // it is not tried again
	}{
		"plain":           {Config{Mechanism: Plain, User: "ada", Password: right}, "", false},
		"scram 256":       {Config{Mechanism: Scram256, User: "ada", Password: right}, "", false},
		"scram 512":       {Config{Mechanism: Scram512, User: "ada", Password: right}, "", false},
		"token":           {Config{Mechanism: OAuthBearer, OAuth: OAuth{TokenFile: token}}, "", false},
		"certificate":     {Config{Mechanism: Plain, User: "ada", Password: right, Cert: certFile, Key: keyFile}, "", false},
		"wrong plain":     {Config{Mechanism: Plain, User: "ada", Password: "wr0ng"}, `(SASL PLAIN as "ada", over TLS): the broker does not accept our credentials: SASL_AUTHENTICATION_FAILED: SASL Authentication failed.: Authentication failed: Invalid username or password`, true},
		"wrong scram":     {Config{Mechanism: Scram512, User: "ada", Password: "wr0ng"}, "invalid credentials with SASL mechanism SCRAM-SHA-512", true},
		"unknown user":    {Config{Mechanism: Scram256, User: "bob", Password: "wr0ng"}, "invalid credentials with SASL mechanism SCRAM-SHA-256", true},
		"expired token":   {Config{Mechanism: OAuthBearer, OAuth: OAuth{TokenFile: expired}}, "(SASL OAUTHBEARER, over TLS): the broker does not accept our credentials", true},
		"no token":        {Config{Mechanism: OAuthBearer, OAuth: OAuth{TokenFile: expired + "x"}}, "no such file", false},
		"unknown CA":      {Config{Mechanism: Plain, User: "ada", Password: right, CA: otherCert}, "we do not trust the broker's certificate", false},
		"wrong name":      {Config{Mechanism: Plain, User: "ada", Password: right, ServerName: "kafka.example.org"}, "we do not trust the broker's certificate", false},
		"in plain text":   {Config{}, "the broker speaks TLS there", false},
		"bad certificate": {Config{Mechanism: Plain, User: "ada", Password: right, Cert: otherCert, Key: otherKey}, "the broker does not accept our TLS", false},
	}
	for name, tt := range table {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.TLS = name != "in plain text"
			if tt.cfg.CA == "" && tt.cfg.TLS {
				tt.cfg.CA = ca
			}
			got := strings.ReplaceAll(refused(t, kafka.Secure, tt.cfg, tt.final), `\"`, `"`)
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(got, "wr0ng") {
				t.Errorf("a password is said: %s", got)
			}
		})
	}
	t.Run("again", func(t *testing.T) {
		t.Parallel()
		again(t, kafka)
	})
}

// unsigned returns a token of nobody, as Kafka takes them by default.
func unsigned(sub string, lasts time.Duration) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now()
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, sub, now.Add(-time.Hour).Unix(), now.Add(lasts).Unix())) + "."
}

// again has a password changed while a consumer runs, whose broker asks for it every few
// seconds: the consumer says so, and goes on when it is right again.
func again(t *testing.T, kafka *testenv.SecureKafka) {
	kafka.Admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.CreateTopic(ctx, 1, 1, nil, "events")
		return err
	})
	kafka.Grant("ada", kadm.NewACLs().Topics("events").Operations(kadm.OpRead))
	kafka.Grant("ada", kadm.NewACLs().Groups("eventstream-filter").Operations(kadm.OpRead))
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, testenv.KafkaPassword)
	a, _, err := Open(Config{TLS: true, CA: kafka.CA, Mechanism: Scram512, User: "ada", PasswordFile: password}, testenv.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	var said lines
	c, err := topic.NewConsumer(topic.Config{Brokers: []string{kafka.Secure}, Access: a}, nil, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	got := make(chan string, 1)
	go func() {
		ended <- c.Run(ctx, func(ctx context.Context, p *topic.Partition) error {
			p.SeekTo(0)
			for {
				records, err := p.Next(ctx, time.Second)
				if err != nil {
					return err
				}
				for _, r := range records {
					got <- string(r.Value)
				}
			}
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	receives := func(value string) {
		t.Helper()
		p, err := topic.NewProducer(topic.Config{Brokers: []string{kafka.Addr}}, nil, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		p.Produce(t.Context(), nil, []byte(value), nil, nil)
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		limit := time.After(patience)
		for {
			select {
			case g := <-got:
				if g == value { // not one from before, which a worker that begins anew reads again
					return
				}
			case <-limit:
				t.Fatalf("%q does not come", value)
			}
		}
	}
	receives("one")
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	write(t, password, "wr0ng")
	testenv.Eventually(t, patience, func() error {
		if err := c.Ping(t.Context()); !errors.Is(err, topic.ErrRefused) {
			return fmt.Errorf("Ping: %v", err)
		}
		return nil
	})
	if !strings.Contains(said.String(), `level=ERROR msg="Kafka can't be used; retrying"`) || strings.Contains(said.String(), "wr0ng") {
		t.Errorf("said: %s", said.String())
	}
	write(t, password, testenv.KafkaPassword)
	testenv.Eventually(t, patience, func() error { return c.Ping(t.Context()) })
	receives("two")
	if err := os.Remove(password); err != nil {
		t.Error(err)
	}
}
