package topic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Access is how brokers and clients know each other; package access makes it. The zero
// value is plain text, in which nobody says who he is.
type Access struct {
	TLS  func() *tls.Config // of the next connection; nil for plain text
	SASL sasl.Mechanism     // nil for none
	User string             // whom SASL names, for messages; may be empty
}

// String says how, without secrets.
func (a Access) String() string {
	how := "without SASL"
	if a.SASL != nil {
		how = "SASL " + a.SASL.Name()
	}
	if a.User != "" {
		how += fmt.Sprintf(" as %q", a.User)
	}
	if a.TLS != nil {
		return how + ", over TLS"
	}
	return how + ", in plain text"
}

// dialTimeout bounds how long a broker is waited for, that of the TLS handshake included.
const dialTimeout = 5 * time.Second

func (a Access) options() []kgo.Opt {
	opts := []kgo.Opt{kgo.Dialer(a.dial)}
	if a.SASL != nil {
		opts = append(opts, kgo.SASL(credentials{a.SASL}))
	}
	return opts
}

// dial connects to a broker, and makes sure that it is one that we trust.
func (a Access) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if a.TLS == nil {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return (&tls.Dialer{Config: a.TLS()}).DialContext(ctx, network, addr)
}

// errCredentials reports that we have no credentials to show.
var errCredentials = errors.New("no credentials")

// credentials tells our own failures to get credentials from a broker that refuses them.
type credentials struct{ sasl.Mechanism }

func (c credentials) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := c.Mechanism.Authenticate(ctx, host)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errCredentials, err)
	}
	return session, first, err
}

// ErrRefused reports that a broker and we can't agree on who we are. To try again does
// not help, until somebody changes something.
var ErrRefused = errors.New("we and Kafka don't accept each other")

// refusal returns err as an ErrRefused with the reason if it is one, or nil.
func (a Access) refusal(err error) error {
	op, _ := errors.AsType[*net.OpError](err)
	why := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errCredentials):
		why = "we have no credentials to show"
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.IllegalSaslState):
		why = "the broker does not accept our credentials"
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		why = "the broker does not offer this mechanism"
	case isA[*tls.CertificateVerificationError](err), isA[x509.HostnameError](err), isA[x509.UnknownAuthorityError](err):
		why = "we do not trust the broker's certificate"
	case op != nil && op.Op == "remote error": // an alert of TLS
		why = "the broker does not accept our TLS, perhaps our certificate"
	case isA[tls.RecordHeaderError](err):
		why = "the broker does not speak TLS there"
	case strings.Contains(err.Error(), "tls alert record"): // the client has no type for it
		why = "the broker speaks TLS there"
	default:
		return nil
	}
	return fmt.Errorf("%w (%s): %s: %w", ErrRefused, a, why, err)
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
