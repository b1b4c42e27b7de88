package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/spf13/pflag"

	"eventstream/auth"
	"eventstream/internal/ops"
	"eventstream/internal/run"
)

// nobodyAsked is logged by a gateway without token keys.
const nobodyAsked = "no token keys are configured: each client may say that it is any subscriber; use --token-keys, --token-jwks or EVENTSTREAM_TOKEN_SECRET"

// tokenFlags configure which subscribers' tokens are accepted.
type tokenFlags struct {
	Keys     []string `env:"TOKEN_KEYS"`
	Secret   string   `env:"TOKEN_SECRET"` // not a flag: other users of the machine can see flags
	JWKS     string   `env:"TOKEN_JWKS"`
	JWKSCA   string   `env:"TOKEN_JWKS_CA"`
	Audience []string `env:"TOKEN_AUDIENCE"`
	Issuers  []string `env:"TOKEN_ISSUERS"`
	Subject  string   `env:"TOKEN_SUBJECT_CLAIM" envDefault:"sub"`
	Type     string   `env:"TOKEN_TYPE"`
	Scope    string   `env:"TOKEN_SCOPE"`
}

// terms are the claims that tokens must have, and that those we sign have.
func (t *tokenFlags) terms() auth.Terms {
	return auth.Terms{Audience: t.Audience, Issuers: t.Issuers, SubjectClaim: t.Subject, Type: t.Type, Scope: t.Scope}
}

// check rejects terms without keys.
func (t *tokenFlags) check() error {
	switch {
	case t.JWKSCA != "" && t.JWKS == "":
		return usageError{errors.New("--token-jwks-ca needs --token-jwks")}
	case t.Subject == "":
		return usageError{errors.New("--token-subject-claim: want the name of a claim, such as sub")}
	case strings.ContainsAny(t.Scope, " ,"):
		return usageError{fmt.Errorf("--token-scope %q: want one scope", t.Scope)}
	case len(t.Keys) == 0 && t.Secret == "" && t.JWKS == "" && (len(t.Audience)+len(t.Issuers) > 0 || t.Type != "" || t.Scope != "" || t.Subject != "sub"):
		return usageError{errors.New("--token-audience, --token-issuers, --token-subject-claim, --token-type and --token-scope: there are no keys to check tokens with")}
	}
	return nil
}

func (t *tokenFlags) add(fs *pflag.FlagSet) {
	t.addKeys(fs)
	fs.StringVar(&t.JWKS, "token-jwks", t.JWKS, "https URL of the JWK set whose keys sign subscribers' tokens; read again every 5 minutes, and for a key that is new")
	fs.StringVar(&t.JWKSCA, "token-jwks-ca", t.JWKSCA, "file with the CAs of that URL, PEM; the system's if empty")
}

// addKeys adds the flags that signing needs.
func (t *tokenFlags) addKeys(fs *pflag.FlagSet) {
	fs.StringSliceVar(&t.Keys, "token-keys", t.Keys, "files with keys for subscribers' tokens, separated by commas: PEM, JWK or JWK set, of RSA, EC P-256, P-384 or P-521, or Ed25519;\n"+
		"several at once while they are rotated (secrets for HS256: EVENTSTREAM_TOKEN_SECRET, [kid:]secret,…, at least 32 characters each)")
	fs.StringSliceVar(&t.Audience, "token-audience", t.Audience, "tokens must name one of these in aud; not looked at if empty")
	fs.StringSliceVar(&t.Issuers, "token-issuers", t.Issuers, "tokens must have one of these as iss; not looked at if empty")
	fs.StringVar(&t.Subject, "token-subject-claim", t.Subject, "claim that names the subscriber, such as preferred_username")
	fs.StringVar(&t.Type, "token-type", t.Type, "typ that tokens must have in their header, such as at+jwt; not looked at if empty")
	fs.StringVar(&t.Scope, "token-scope", t.Scope, "scope that tokens must have, in scope or scp; not looked at if empty")
}

// read returns the static keys, secrets first.
func (t *tokenFlags) read() (keys []auth.Key, err error) {
	if t.Secret != "" {
		if keys, err = auth.ParseSecrets(t.Secret); err != nil {
			return nil, usageError{fmt.Errorf("EVENTSTREAM_TOKEN_SECRET: %w", err)}
		}
	}
	for _, name := range t.Keys {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--token-keys: %w", err)}
		}
		more, err := auth.ParseKeys(data)
		if err != nil {
			return nil, usageError{fmt.Errorf("--token-keys: %s: %w", name, err)}
		}
		keys = append(keys, more...)
	}
	if err := auth.CheckKeys(keys); err != nil {
		return nil, usageError{fmt.Errorf("token keys: %w", err)}
	}
	return keys, nil
}

// open returns a verifier, or nil without keys; and the JWKS to run, or nil.
func (t *tokenFlags) open(log *slog.Logger) (*auth.Verifier, *auth.JWKS, error) {
	if err := t.check(); err != nil {
		return nil, nil, err
	}
	cfg := auth.Config{Terms: t.terms()}
	var err error
	if cfg.Keys, err = t.read(); err != nil {
		return nil, nil, err
	}
	if t.JWKS != "" {
		var cas *x509.CertPool
		if t.JWKSCA != "" {
			if cas, err = ops.ReadCA(t.JWKSCA); err != nil {
				return nil, nil, usageError{fmt.Errorf("--token-jwks-ca: %w", err)}
			}
		}
		if cfg.JWKS, err = auth.NewJWKS(auth.JWKSConfig{URL: t.JWKS, CA: cas}, log); err != nil {
			return nil, nil, usageError{fmt.Errorf("--token-jwks: %w", err)}
		}
	}
	if len(cfg.Keys) == 0 && cfg.JWKS == nil {
		return nil, nil, nil
	}
	v, err := auth.NewVerifier(cfg)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return v, cfg.JWKS, nil
}

// reload rereads the files with static keys. A running gateway does not start or stop
// requiring tokens.
func (t *tokenFlags) reload(v *auth.Verifier) error {
	if v == nil || len(t.Keys) == 0 {
		return nil
	}
	keys, err := t.read()
	if err != nil {
		return err
	}
	return v.SetKeys(keys)
}

// signer returns a signer, or nil without keys.
func (t *tokenFlags) signer() (*auth.Signer, error) {
	keys, err := t.read()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	s, err := auth.NewSigner(keys, t.terms())
	if err != nil {
		return nil, usageError{fmt.Errorf("--token-keys: %w", err)}
	}
	return s, nil
}

// addIssuer starts refreshing the keys of an issuer.
func addIssuer(g *run.Group, reg prometheus.Registerer, j *auth.JWKS) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "token_keys_age_seconds", Help: "Time since the JWKS was last read; 0 if it never was.",
	}, func() float64 { return j.Age().Seconds() })
	g.Add("token keys", j.Run)
}

// keysCheck reports in /readyz that an issuer's keys can't be read. Without any keys no
// token can be verified; with static or older ones it reports degraded.
func keysCheck(j *auth.JWKS, others bool) ops.Check {
	return ops.Check{Name: "token_keys", Local: true, Do: func(context.Context) error {
		err := j.Check()
		if errors.Is(err, auth.ErrOldKeys) || others {
			return ops.Degraded(err)
		}
		return err
	}}
}
