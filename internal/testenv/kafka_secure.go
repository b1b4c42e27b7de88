package testenv

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"eventstream/internal/check/cluster"
)

// SecureKafka is a Kafka that a test may kill, with a second listener, Secure, that wants
// TLS and SASL, where each user may do what Grant grants and no more. At Addr everything
// is allowed to everybody.
type SecureKafka struct {
	*PrivateKafka

	Secure string // host:port
	CA     string // file with the CA of its certificate
	Cert   string // file with a certificate that it trusts
	Key    string // file with its key
}

// KafkaPassword is that of every user at a SecureKafka.
const KafkaPassword = "Kafka-secret-7"

// KafkaServerSecure is KafkaServer with a secure listener and users by PLAIN and SCRAM.
func KafkaServerSecure(t testing.TB, users ...string) *SecureKafka {
	t.Helper()
	dir := t.TempDir()
	s := &SecureKafka{}
	s.CA, s.Key = Certificate(t, dir, 1)
	s.Cert = s.CA // one for both ends
	passwords := make(map[string]string)
	for _, u := range users {
		passwords[u] = KafkaPassword
	}
	s.PrivateKafka = startKafka(t, func(ctx context.Context, files cluster.KafkaFiles, dir string) (*cluster.Kafka, error) {
		return cluster.StartKafka(ctx, files, dir, &cluster.KafkaSecurity{
			KeyStore: filepath.Join(filepath.Dir(s.Cert), "store.pem"), TrustStore: s.Cert, Users: passwords,
		})
	})
	s.Secure = s.kafka.Secure
	s.do(func(ctx context.Context) error { return s.kafka.AddUsers(ctx, passwords) })
	return s
}

// Admin does something at the plain listener.
func (s *SecureKafka) Admin(do func(context.Context, *kadm.Client) error) {
	s.t.Helper()
	s.do(func(ctx context.Context) error {
		return s.kafka.Admin(ctx, func(adm *kadm.Client) error { return do(ctx, adm) })
	})
}

// Grant allows a user what an ACL says, which names resources and operations.
func (s *SecureKafka) Grant(user string, acl *kadm.ACLBuilder) {
	s.t.Helper()
	s.do(func(ctx context.Context) error { return s.kafka.Grant(ctx, user, acl) })
}

func (s *SecureKafka) do(what func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), startLimit)
	defer cancel()
	if err := what(ctx); err != nil {
		s.t.Fatal(err)
	}
}
