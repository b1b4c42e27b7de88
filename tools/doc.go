// Package tools checks the files that Go's own tools don't, and pins the
// commands that `make check` runs. It is a module of its own, so that none of
// this becomes a dependency of eventstream.
package tools
