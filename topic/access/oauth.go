package access

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"eventstream/internal/ops"
	"eventstream/internal/redact"
)

// OAuth says where tokens for OAUTHBEARER come from: a file that somebody else writes, or
// an endpoint that gives them for the client's id and secret.
type OAuth struct {
	TokenFile string

	TokenURL string   // https
	CA       string   // file with the CAs of TokenURL, PEM; the system's if empty
	Scopes   []string // to ask for

	Extensions map[string]string // to tell brokers, as Confluent Cloud wants them
}

// tokenTimeout bounds a question for a token.
const tokenTimeout = 10 * time.Second

func oauthBearer(cfg Config, log *slog.Logger) (sasl.Mechanism, error) {
	token := func(context.Context) (string, error) { return Secret("", cfg.OAuth.TokenFile) }
	if cfg.OAuth.TokenFile == "" {
		if _, err := cfg.tokenClient(); err != nil {
			return nil, err
		}
		if _, err := cfg.password(); err != nil {
			return nil, err
		}
		token = newRenewed(cfg.askToken, "a token for Kafka", log).get
	}
	return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		t, err := token(ctx)
		return oauth.Auth{Token: t, Extensions: cfg.OAuth.Extensions}, err
	}), nil
}

// askToken returns a token, and for how long it may be used.
func (cfg Config) askToken(ctx context.Context) (token string, good time.Duration, err error) {
	password, err := cfg.password()
	if err != nil {
		return "", 0, err
	}
	client, err := cfg.tokenClient()
	if err != nil {
		return "", 0, err
	}
	of := clientcredentials.Config{ClientID: cfg.User, ClientSecret: password, TokenURL: cfg.OAuth.TokenURL, Scopes: cfg.OAuth.Scopes}
	answer, err := of.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return "", 0, fmt.Errorf("ask %s for a token: %w", cfg.OAuth.TokenURL, redact.Error(err))
	}
	if !answer.Expiry.IsZero() {
		good = time.Until(answer.Expiry)
	}
	return answer.AccessToken, good, nil
}

// tokenClient returns a client for one question, with the CAs as they are now.
func (cfg Config) tokenClient() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if cfg.OAuth.CA != "" {
		pool, err := ops.ReadCA(cfg.OAuth.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: transport, Timeout: tokenTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it would get the secret
	}, nil
}
