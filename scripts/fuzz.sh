#!/bin/sh
# Runs every fuzz test of the module for FUZZTIME each. go test takes only one
# of them at a time.
set -eu
cd "$(dirname "$0")/.."

# For each package, go test -list prints its fuzz tests and then "ok <package>".
targets=$(go test -list '^Fuzz' ./... | awk '
	/^Fuzz/ { name[n++] = $1 }
	/^ok/ { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }')

echo "$targets" | while read -r package fuzz; do
	[ -n "$fuzz" ] || continue
	echo "$package $fuzz"
	go test -run '^$' -fuzz "^$fuzz\$" -fuzztime "${FUZZTIME:-5s}" "$package" </dev/null
done
