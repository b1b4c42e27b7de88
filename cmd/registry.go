package cmd

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"eventstream/internal/ops"
	"eventstream/topic"
	"eventstream/topic/access"
	"eventstream/topic/format"
)

// registryFlags say where schemas are.
type registryFlags struct {
	URLs []string `env:"REGISTRY"`
	User string   `env:"REGISTRY_USER"`

	Password     string `env:"REGISTRY_PASSWORD"` // not flags: other users of the machine can read those
	PasswordFile string `env:"REGISTRY_PASSWORD_FILE"`
	Token        string `env:"REGISTRY_TOKEN"`
	TokenFile    string `env:"REGISTRY_TOKEN_FILE"`

	CA         string `env:"REGISTRY_TLS_CA"`
	Cert       string `env:"REGISTRY_TLS_CERT"`
	Key        string `env:"REGISTRY_TLS_KEY"`
	ServerName string `env:"REGISTRY_TLS_SERVER_NAME"`
}

func (f *registryFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.URLs, "registry", f.URLs, "URLs of one Schema Registry, separated by commas; for sources whose format needs it")
	fs.StringVar(&f.User, "registry-user", f.User, "user at the Schema Registry (password: EVENTSTREAM_REGISTRY_PASSWORD; a token instead: EVENTSTREAM_REGISTRY_TOKEN)")
	fs.StringVar(&f.PasswordFile, "registry-password-file", f.PasswordFile, "file with that password; read for each request")
	fs.StringVar(&f.TokenFile, "registry-token-file", f.TokenFile, "file with a bearer token for the Schema Registry; read for each request")
	fs.StringVar(&f.CA, "registry-tls-ca", f.CA, "file with the CAs of the Schema Registry's certificate, PEM; the system's if empty; read again when it changes")
	fs.StringVar(&f.Cert, "registry-tls-cert", f.Cert, "file with a certificate to show to the Schema Registry, PEM; read again when it changes")
	fs.StringVar(&f.Key, "registry-tls-key", f.Key, "file with that certificate's key, PEM")
	fs.StringVar(&f.ServerName, "registry-tls-server-name", f.ServerName, "name that the Schema Registry's certificate has; the host that is connected to if empty")
}

func (f *registryFlags) rules() []rule {
	password, token := f.Password != "" || f.PasswordFile != "", f.Token != "" || f.TokenFile != ""
	tls := f.CA != "" || f.Cert != "" || f.Key != "" || f.ServerName != ""
	return []rule{
		{len(f.URLs) == 0 && (f.User != "" || password || token || tls), "settings of a Schema Registry need --registry, its URL"},
		{f.Password != "" && f.PasswordFile != "", "EVENTSTREAM_REGISTRY_PASSWORD and --registry-password-file: want one of them"},
		{f.Token != "" && f.TokenFile != "", "EVENTSTREAM_REGISTRY_TOKEN and --registry-token-file: want one of them"},
		{(f.User != "") != password, "--registry-user needs EVENTSTREAM_REGISTRY_PASSWORD or --registry-password-file, and they need it"},
		{password && token, "a password and a token for the Schema Registry: want one of them"},
		{(f.Cert == "") != (f.Key == ""), "--registry-tls-cert and --registry-tls-key: want both or none"},
		{tls && !slices.ContainsFunc(f.URLs, func(u string) bool { return strings.HasPrefix(u, "https://") }), "--registry-tls-ca, -cert, -key and -server-name need an https:// URL in --registry"},
	}
}

// check tells what is wrong with the flags, for the sources of a file.
func (f *registryFlags) check(c *configFile) error {
	for _, r := range f.rules() {
		if r.broken {
			return usageError{errors.New(r.what)}
		}
	}
	if len(f.URLs) == 0 && c.format.NeedsRegistry() {
		return usageError{fmt.Errorf("%s: a source of format %s needs a Schema Registry: --registry, or the setting registry", c.path, c.format)}
	}
	return nil
}

// proof returns who we are, as it is now.
func (f *registryFlags) proof() (password, token string, err error) {
	if f.Token != "" || f.TokenFile != "" {
		token, err = access.Secret(f.Token, f.TokenFile)
	} else if f.User != "" {
		password, err = access.Secret(f.Password, f.PasswordFile)
	}
	return password, token, err
}

// open returns the Registry, nil if there is none. It asks nobody for anything.
func (f *registryFlags) open(reloads *reloads, reg prometheus.Registerer, log *slog.Logger) (*format.Registry, error) {
	if len(f.URLs) == 0 {
		return nil, nil
	}
	if _, _, err := f.proof(); err != nil {
		return nil, usageError{fmt.Errorf("access to the Schema Registry: %w", err)}
	}
	next, files, err := ops.ClientTLS{CA: f.CA, Cert: f.Cert, Key: f.Key, ServerName: f.ServerName}.Open("the Schema Registry", log)
	if err != nil {
		return nil, usageError{fmt.Errorf("TLS with the Schema Registry: %w", err)}
	}
	for _, read := range files {
		reloads.add(read)
	}
	r, err := format.NewRegistry(format.RegistryConfig{URLs: f.URLs, User: f.User, Proof: f.proof, TLS: next}, reg, log)
	if err != nil {
		return nil, usageError{fmt.Errorf("--registry: %w", err)}
	}
	// After the URLs were checked: now none has a password in it.
	secret := f.User != "" || f.Token != "" || f.TokenFile != ""
	if i := slices.IndexFunc(f.URLs, func(u string) bool { return strings.HasPrefix(u, "http://") }); i >= 0 && secret {
		log.Warn("credentials for the Schema Registry go over the network in plain text, for everybody to read who can listen; use https", "url", f.URLs[i])
	}
	return r, nil
}

// source returns how records are read, and what is to be called at the end. The flags are
// checked before.
func (f *registryFlags) source(c *configFile, reloads *reloads, reg prometheus.Registerer, log *slog.Logger) (*topic.Source, func(), error) {
	r, err := f.open(reloads, reg, log)
	if err != nil {
		return nil, nil, err
	}
	done := func() {}
	if r != nil {
		done = r.Close
	}
	if c.format == "" || c.format == format.JSON {
		return c.source, done, nil
	}
	return c.source.In(format.New(c.format, r)), done, nil
}
