#!/bin/sh
# Runs every fuzz test of the module for FUZZTIME each. go test takes only one
# of them at a time.
set -eu
cd "$(dirname "$0")/.."

# Only packages that have one, because listing builds the whole test.
packages=$(find . -name '.?*' -prune -o -name '*_test.go' -exec grep -l '^func Fuzz' {} + |
	sed 's|/[^/]*$||' | sort -u)
if [ -z "$packages" ]; then
	exit 0
fi

# For each package, go test -list prints its fuzz tests and then "ok <package>".
# shellcheck disable=SC2086 # one word each
list=$(go test -list '^Fuzz' $packages)
echo "$list" | awk '
	/^Fuzz/ { name[n++] = $1 }
	/^ok/ { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' |
	while read -r package fuzz; do
		echo "$package $fuzz"
		go test -run '^$' -fuzz "^$fuzz\$" -fuzztime "${FUZZTIME:-5s}" "$package" </dev/null
	done
