#!/bin/sh
# Runs every fuzz test of the module for FUZZTIME each, a number of runs such as
# 20000x or a time such as 60s. go test takes only one of them at a time. A time
# now and then ends in "context deadline exceeded" with nothing found: Go issue
# 75804. Without a bound, making inputs smaller takes most of a short run.
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
		go test -run '^$' -fuzz "^$fuzz\$" -fuzztime "${FUZZTIME:-20000x}" -fuzzminimizetime 10x "$package" </dev/null
	done
