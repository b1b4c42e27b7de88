package cmd

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"eventstream/topic"
	"eventstream/topic/access"
)

// accessFlags configure how we and Kafka's brokers authenticate each other.
type accessFlags struct {
	TLS        bool   `env:"KAFKA_TLS"`
	CA         string `env:"KAFKA_TLS_CA"`
	Cert       string `env:"KAFKA_TLS_CERT"`
	Key        string `env:"KAFKA_TLS_KEY"`
	ServerName string `env:"KAFKA_TLS_SERVER_NAME"`

	SASL         string   `env:"KAFKA_SASL"`
	User         string   `env:"KAFKA_SASL_USER"`
	Password     string   `env:"KAFKA_SASL_PASSWORD"` // not a flag: other users of the machine can see flags
	PasswordFile string   `env:"KAFKA_SASL_PASSWORD_FILE"`
	TokenFile    string   `env:"KAFKA_SASL_TOKEN_FILE"`
	TokenURL     string   `env:"KAFKA_SASL_TOKEN_URL"`
	TokenCA      string   `env:"KAFKA_SASL_TOKEN_CA"`
	Scopes       []string `env:"KAFKA_SASL_SCOPES"`
	Extensions   []string `env:"KAFKA_SASL_EXTENSIONS"`
}

func (f *accessFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.TLS, "kafka-tls", f.TLS, "speak TLS with Kafka")
	fs.StringVar(&f.CA, "kafka-tls-ca", f.CA, "file with the CAs of the brokers' certificates, PEM; the system's if empty; read again when it changes")
	fs.StringVar(&f.Cert, "kafka-tls-cert", f.Cert, "file with a certificate to show to brokers, PEM; read again when it changes")
	fs.StringVar(&f.Key, "kafka-tls-key", f.Key, "file with that certificate's key, PEM")
	fs.StringVar(&f.ServerName, "kafka-tls-server-name", f.ServerName, "name that the brokers' certificates have; the host that is connected to if empty")
	fs.StringVar(&f.SASL, "kafka-sasl", f.SASL, "SASL mechanism: "+strings.Join(access.Mechanisms, ", ")+"; none if empty")
	fs.StringVar(&f.User, "kafka-sasl-user", f.User, "user, or client id for --kafka-sasl-token-url (password or client secret: EVENTSTREAM_KAFKA_SASL_PASSWORD)")
	fs.StringVar(&f.PasswordFile, "kafka-sasl-password-file", f.PasswordFile, "file with the password or client secret; read at each authentication")
	fs.StringVar(&f.TokenFile, "kafka-sasl-token-file", f.TokenFile, "oauthbearer: file with a token; read at each authentication")
	fs.StringVar(&f.TokenURL, "kafka-sasl-token-url", f.TokenURL, "oauthbearer: https URL that gives tokens for client credentials")
	fs.StringVar(&f.TokenCA, "kafka-sasl-token-ca", f.TokenCA, "file with the CAs of that URL, PEM; the system's if empty")
	fs.StringSliceVar(&f.Scopes, "kafka-sasl-scopes", f.Scopes, "scopes to ask for there, separated by commas")
	fs.StringSliceVar(&f.Extensions, "kafka-sasl-extensions", f.Extensions, "oauthbearer: name=value to tell brokers, separated by commas")
}

// rule is a relation between two flags.
type rule struct {
	broken bool
	what   string
}

func (f *accessFlags) rules() []rule {
	named := f.SASL == access.Plain || f.SASL == access.Scram256 || f.SASL == access.Scram512
	oauth := f.SASL == access.OAuthBearer
	secrets := f.Password != "" || f.PasswordFile != ""
	return []rule{
		{f.SASL != "" && !slices.Contains(access.Mechanisms, f.SASL), fmt.Sprintf("--kafka-sasl %q: want one of %s", f.SASL, strings.Join(access.Mechanisms, ", "))},
		{!f.TLS && (f.CA != "" || f.Cert != "" || f.Key != "" || f.ServerName != ""), "--kafka-tls-ca, --kafka-tls-cert, --kafka-tls-key and --kafka-tls-server-name need --kafka-tls"},
		{(f.Cert == "") != (f.Key == ""), "--kafka-tls-cert and --kafka-tls-key: want both or none"},
		{f.SASL == "" && (f.User != "" || secrets), "--kafka-sasl-user, EVENTSTREAM_KAFKA_SASL_PASSWORD and --kafka-sasl-password-file need --kafka-sasl"},
		{!oauth && (f.TokenFile != "" || f.TokenURL != "" || f.TokenCA != "" || len(f.Scopes)+len(f.Extensions) > 0), "--kafka-sasl-token-file, -token-url, -token-ca, -scopes and -extensions need --kafka-sasl oauthbearer"},
		{f.Password != "" && f.PasswordFile != "", "EVENTSTREAM_KAFKA_SASL_PASSWORD and --kafka-sasl-password-file: want one of them"},
		{named && (f.User == "" || !secrets), "--kafka-sasl " + f.SASL + " needs --kafka-sasl-user, and EVENTSTREAM_KAFKA_SASL_PASSWORD or --kafka-sasl-password-file"},
		{oauth && (f.TokenFile == "") == (f.TokenURL == ""), "--kafka-sasl oauthbearer needs --kafka-sasl-token-file or --kafka-sasl-token-url, not both"},
		{f.TokenURL != "" && !isHTTPS(f.TokenURL), "--kafka-sasl-token-url: want https://host/path, without a user"},
		{f.TokenURL != "" && (f.User == "" || !secrets), "--kafka-sasl-token-url needs --kafka-sasl-user, the client id, and EVENTSTREAM_KAFKA_SASL_PASSWORD or --kafka-sasl-password-file, its secret"},
		{f.TokenURL == "" && (f.TokenCA != "" || len(f.Scopes) > 0), "--kafka-sasl-token-ca and --kafka-sasl-scopes need --kafka-sasl-token-url"},
		{f.TokenFile != "" && (f.User != "" || secrets), "--kafka-sasl-token-file has all that is needed: no user, and no password"},
		{f.SASL == access.AWS && (f.User != "" || secrets), "--kafka-sasl aws-msk-iam takes what AWS's tools take, such as AWS_ACCESS_KEY_ID or AWS_PROFILE: no user, and no password"},
		{f.SASL == access.AWS && !f.TLS, "--kafka-sasl aws-msk-iam needs --kafka-tls"},
	}
}

func isHTTPS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

// open reads the files. reloads reads them again.
func (f *accessFlags) open(reloads *reloads, log *slog.Logger) (topic.Access, error) {
	for _, r := range f.rules() {
		if r.broken {
			return topic.Access{}, usageError{fmt.Errorf("%s", r.what)}
		}
	}
	extensions := make(map[string]string)
	for i, e := range f.Extensions {
		name, value, ok := strings.Cut(e, "=")
		if !ok || name == "" || name == "auth" || strings.ContainsAny(e, "\x00\x01\r\n") {
			return topic.Access{}, usageError{fmt.Errorf("--kafka-sasl-extensions: %d of %d: want name=value, and not auth", i+1, len(f.Extensions))}
		}
		extensions[name] = value
	}
	a, files, err := access.Open(access.Config{
		TLS: f.TLS, CA: f.CA, Cert: f.Cert, Key: f.Key, ServerName: f.ServerName,
		Mechanism: f.SASL, User: f.User, Password: f.Password, PasswordFile: f.PasswordFile,
		OAuth: access.OAuth{TokenFile: f.TokenFile, TokenURL: f.TokenURL, CA: f.TokenCA, Scopes: f.Scopes, Extensions: extensions},
	}, log)
	if err != nil {
		return a, usageError{fmt.Errorf("access to Kafka: %w", err)}
	}
	for _, read := range files {
		reloads.add(read)
	}
	if !f.TLS && (f.SASL == access.Plain || f.SASL == access.OAuthBearer) {
		log.Warn("credentials for Kafka go over the network in plain text, for everybody to read who can listen; use --kafka-tls", "sasl", f.SASL)
	}
	return a, nil
}
