// Package redact keeps secrets out of logs and error messages. Errors of libraries
// quote what they were given: URLs with passwords, addresses with tokens, headers.
//
// Where we know that an error may hold a secret, Error or a text of our own takes
// its place. Writer and Text are the net below that: all logs, and the last words of
// a process, go through them.
package redact

import (
	"errors"
	"io"
	"net/url"
	"regexp"
)

// Error returns err without the URLs that net/http and net/url put before it.
func Error(err error) error {
	if with, ok := errors.AsType[*url.Error](err); ok {
		return with.Err
	}
	return err
}

// hidden is what a secret is replaced by.
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

// Text returns s without what looks like a secret.
func Text(s string) string {
	for _, p := range patterns {
		s = p.find.ReplaceAllString(s, p.put)
	}
	return s
}

// Writer passes on to w what is written, line by line as loggers do, without what
// looks like a secret.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

func (w writer) Write(line []byte) (int, error) {
	if _, err := io.WriteString(w.to, Text(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
