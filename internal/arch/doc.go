// Package arch holds no code, only the test that keeps the imports between our
// packages to one table: words below, then edges, services, and wiring on top.
package arch
