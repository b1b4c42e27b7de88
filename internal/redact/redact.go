// Package redact keeps secrets out of logs and error messages. Errors of libraries
// quote their input: URLs with passwords, addresses with tokens, headers.
//
// Where an error may contain a secret, we use Error or replace it by a text of our own.
// Writer and Text are the second line of defence: all logs, and the last error of a
// process, pass through them.
package redact

import (
	"errors"
	"io"
	"net/url"
	"regexp"
)

// Error returns err without the URLs that net/http and net/url put in front.
func Error(err error) error {
	if with, ok := errors.AsType[*url.Error](err); ok {
		return with.Err
	}
	return err
}

// hidden replaces a secret.
const hidden = "***"

var patterns = []struct {
	find *regexp.Regexp
	put  string
}{
	// redis://:password@host, in all forms that have a colon before the last @
	{regexp.MustCompile(`[^\s"'\\]*:[^\s"'\\]*@`), hidden + "@"},
	{regexp.MustCompile(`(?i)\b(bearer[ .]+)[a-z0-9._~+/=-]{16,}`), "${1}" + hidden},
	{regexp.MustCompile(`\bes_[0-9a-f]{12}_[A-Za-z0-9_-]+`), "es_" + hidden},                                      // API keys
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?`), hidden},                        // tokens
	{regexp.MustCompile(`(?i)\b((ssl)?password|secret|(access_)?token)=('[^']*'?|[^\s&"\\]+)`), "${1}=" + hidden}, // DSNs, queries
}

// Text returns s with everything that looks like a secret hidden.
func Text(s string) string {
	for _, p := range patterns {
		s = p.find.ReplaceAllString(s, p.put)
	}
	return s
}

// Writer returns a writer to w that hides what looks like a secret, line by
// line, as loggers write.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

func (w writer) Write(line []byte) (int, error) {
	if _, err := io.WriteString(w.to, Text(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
