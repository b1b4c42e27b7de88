// Package access makes what clients need to be let in by a Kafka cluster: TLS, and
// credentials by PLAIN, SCRAM, OAUTHBEARER or AWS MSK IAM.
//
// What stands in files is read again: a CA and a certificate when the files change, a
// password or a token each time that a broker asks who we are.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"eventstream/internal/ops"
	"eventstream/topic"
)

// Config says how to be let in. The zero value is plain text, without credentials.
type Config struct {
	TLS        bool
	CA         string // file with the CAs of brokers, PEM; the system's if empty
	Cert, Key  string // files with our certificate and its key, PEM; none if empty
	ServerName string // that the brokers' certificates have; the host that is dialled if empty

	Mechanism    string // one of Mechanisms; no SASL if empty
	User         string // of PLAIN and SCRAM; the client's id of OAUTHBEARER
	Password     string // its password, or the client's secret
	PasswordFile string // the same in a file
	OAuth        OAuth
}

// The names of mechanisms.
const (
	Plain       = "plain"
	Scram256    = "scram-sha-256"
	Scram512    = "scram-sha-512"
	OAuthBearer = "oauthbearer"
	AWS         = "aws-msk-iam"
)

// Mechanisms are all of these.
var Mechanisms = []string{Plain, Scram256, Scram512, OAuthBearer, AWS}

// Files are read again at Reload, beside by themselves.
type Files []func() error

// Open reads the files. It asks nobody for anything.
func Open(cfg Config, log *slog.Logger) (a topic.Access, files Files, err error) {
	if cfg.TLS {
		tlsFiles := ops.ClientTLS{CA: cfg.CA, Cert: cfg.Cert, Key: cfg.Key, ServerName: cfg.ServerName}
		if a.TLS, files, err = tlsFiles.Open("Kafka", log); err != nil {
			return a, nil, err
		}
	}
	if a.SASL, err = mechanism(cfg, log); err != nil {
		return a, nil, err
	}
	if a.SASL != nil {
		a.User = cfg.User
	}
	return a, files, nil
}

func mechanism(cfg Config, log *slog.Logger) (sasl.Mechanism, error) {
	switch cfg.Mechanism {
	case "":
		return nil, nil
	case Plain, Scram256, Scram512:
		if _, err := cfg.password(); err != nil {
			return nil, err
		}
	}
	switch cfg.Mechanism {
	case Plain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := cfg.password()
			return plain.Auth{User: cfg.User, Pass: password}, err
		}), nil
	case Scram256:
		return scram.Sha256(cfg.scram), nil
	case Scram512:
		return scram.Sha512(cfg.scram), nil
	case OAuthBearer:
		return oauthBearer(cfg, log)
	case AWS:
		return awsIAM(log), nil
	}
	return nil, fmt.Errorf("SASL mechanism %q: want one of %s", cfg.Mechanism, strings.Join(Mechanisms, ", "))
}

func (cfg Config) scram(context.Context) (scram.Auth, error) {
	password, err := cfg.password()
	return scram.Auth{User: cfg.User, Pass: password}, err
}

// password returns it as it is now.
func (cfg Config) password() (string, error) { return Secret(cfg.Password, cfg.PasswordFile) }

// Secret returns what is in a file, without the end of its line, or the value.
func Secret(value, file string) (string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		value = strings.TrimRight(string(text), "\r\n")
	}
	if value == "" {
		return "", errors.New(cmp.Or(file, "the secret") + " is empty")
	}
	return value, nil
}
