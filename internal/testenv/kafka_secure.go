package testenv

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

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
	store := filepath.Join(dir, "store.pem")
	var text []byte
	for _, name := range []string{s.Key, s.Cert} {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	if err := os.WriteFile(store, text, 0o600); err != nil {
		t.Fatal(err)
	}
	passwords := make(map[string]string)
	for _, u := range users {
		passwords[u] = KafkaPassword
	}
	s.PrivateKafka = startKafka(t, func(ctx context.Context, files cluster.KafkaFiles, dir string) (*cluster.Kafka, error) {
		return cluster.StartSecureKafka(ctx, files, dir, cluster.KafkaSecurity{KeyStore: store, TrustStore: s.Cert, Users: passwords})
	})
	s.Secure = s.kafka.Secure
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // Kafka takes a user once in a request
		var all []kadm.UpsertSCRAM
		for _, u := range users {
			all = append(all, kadm.UpsertSCRAM{User: u, Mechanism: m, Iterations: 4096, Password: KafkaPassword})
		}
		s.Admin(func(ctx context.Context, adm *kadm.Client) error {
			altered, err := adm.AlterUserSCRAMs(ctx, nil, all)
			if err == nil {
				err = altered.Error()
			}
			return err
		})
	}
	return s
}

// Admin does something at the plain listener.
func (s *SecureKafka) Admin(do func(context.Context, *kadm.Client) error) {
	s.t.Helper()
	cl, err := kadm.NewOptClient(kgo.SeedBrokers(s.Addr))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), startLimit)
	defer cancel()
	if err := do(ctx, cl); err != nil {
		s.t.Fatal(err)
	}
}

// Grant allows a user what an ACL says, which names resources and operations.
func (s *SecureKafka) Grant(user string, acl *kadm.ACLBuilder) {
	s.t.Helper()
	s.Admin(func(ctx context.Context, adm *kadm.Client) error {
		made, err := adm.CreateACLs(ctx, acl.Allow("User:"+user).AllowHosts().ResourcePatternType(kadm.ACLPatternLiteral))
		for _, m := range made {
			if err == nil {
				err = m.Err
			}
		}
		return err
	})
}
