package cluster

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaSecurity has listeners of a Kafka want TLS and SASL. ACLs are on: who comes there
// may do nothing without one, and who comes to Addr everything.
type KafkaSecurity struct {
	KeyStore   string            // file with key and certificate, PEM
	TrustStore string            // file with certificates of clients, PEM
	Users      map[string]string // passwords; see Kafka.AddUsers
}

// settings returns the properties of the listeners of these names.
func (s *KafkaSecurity) settings(listeners []string) string {
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for user, password := range s.Users {
		plain += fmt.Sprintf(" user_%s=%q", user, password)
	}
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	all := []string{
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
	}
	for _, name := range listeners {
		for _, setting := range []string{
			"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
			"plain.sasl.jaas.config=" + plain + ";",
			"scram-sha-256.sasl.jaas.config=" + scram,
			"scram-sha-512.sasl.jaas.config=" + scram,
			// It takes tokens that nobody has signed.
			"oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
			"connections.max.reauth.ms=5000",
			"ssl.keystore.type=PEM",
			"ssl.keystore.location=" + s.KeyStore,
			"ssl.truststore.type=PEM",
			"ssl.truststore.location=" + s.TrustStore,
			"ssl.client.auth=requested",
		} {
			all = append(all, "listener.name."+strings.ToLower(name)+"."+setting)
		}
	}
	return strings.Join(all, "\n")
}

// AddUsers has Kafka know users by SCRAM, beside PLAIN.
func (k *Kafka) AddUsers(ctx context.Context, users map[string]string) error {
	return k.Admin(ctx, func(adm *kadm.Client) error {
		for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // Kafka takes a user once in a request
			var all []kadm.UpsertSCRAM
			for user, password := range users {
				all = append(all, kadm.UpsertSCRAM{User: user, Mechanism: m, Iterations: 4096, Password: password})
			}
			altered, err := adm.AlterUserSCRAMs(ctx, nil, all)
			if err = cmp.Or(err, altered.Error()); err != nil {
				return fmt.Errorf("make users of kafka: %w", err)
			}
		}
		return nil
	})
}

// Grant allows a user what an ACL says, which names resources and operations.
func (k *Kafka) Grant(ctx context.Context, user string, acl *kadm.ACLBuilder) error {
	return k.Admin(ctx, func(adm *kadm.Client) error {
		made, err := adm.CreateACLs(ctx, acl.Allow("User:"+user).AllowHosts().ResourcePatternType(kadm.ACLPatternLiteral))
		for _, m := range made {
			err = errors.Join(err, m.Err)
		}
		return err
	})
}

// Admin does something at the listener where everything is allowed.
func (k *Kafka) Admin(ctx context.Context, do func(*kadm.Client) error) error {
	adm, err := kadm.NewOptClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		return err
	}
	defer adm.Close()
	return do(adm)
}

// WriteCertificate writes a certificate for 127.0.0.1, with the given serial number, and its
// key, to cert.pem and key.pem, and both to store.pem.
func WriteCertificate(dir string, serial int64) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		Subject:     pkix.Name{CommonName: fmt.Sprintf("test %d", serial)}, // Java wants one
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), secret, 0o600),
		os.WriteFile(filepath.Join(dir, "store.pem"), append(secret, cert...), 0o600),
	)
}

// kafkaPassword is that of each service's user at a secured Kafka of our own.
const kafkaPassword = "Kafka-secret-7"

// secure makes what a secured Kafka needs, in a folder of its own.
func (c *Cluster) secure() (*KafkaSecurity, error) {
	dir := filepath.Join(c.cfg.Dir, "certificates")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := WriteCertificate(dir, 1); err != nil {
		return nil, err
	}
	ca := filepath.Join(dir, "cert.pem")
	c.access = []string{
		"EVENTSTREAM_KAFKA_TLS=true", "EVENTSTREAM_KAFKA_TLS_CA=" + ca,
		"EVENTSTREAM_KAFKA_SASL=scram-sha-256", "EVENTSTREAM_KAFKA_SASL_USER=filter", "EVENTSTREAM_KAFKA_SASL_PASSWORD=" + kafkaPassword,
	}
	return &KafkaSecurity{
		KeyStore: filepath.Join(dir, "store.pem"), TrustStore: ca, Users: map[string]string{"filter": kafkaPassword},
	}, nil
}

// grant gives filter services the rights that docs/kafka.md lists, and that to make the topics.
func (c *Cluster) grant(ctx context.Context, users map[string]string) error {
	groups := []string{c.topic}
	for i := range c.cfg.Shards {
		groups = append(groups, fmt.Sprintf("%s.%d-of-%d", c.topic, i, c.cfg.Shards))
	}
	return errors.Join(
		c.broker.AddUsers(ctx, users),
		c.broker.Grant(ctx, "filter", kadm.NewACLs().Topics(c.topic).Operations(kadm.OpRead, kadm.OpDescribeConfigs, kadm.OpCreate)),
		c.broker.Grant(ctx, "filter", kadm.NewACLs().Topics(c.topic+".dlq").Operations(kadm.OpWrite, kadm.OpCreate)),
		c.broker.Grant(ctx, "filter", kadm.NewACLs().Groups(groups...).Operations(kadm.OpRead)),
	)
}
