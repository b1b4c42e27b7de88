#!/bin/sh
# Fails when a Go file is not as gofmt writes it. Folders that begin with a dot,
# such as the servers' data in .services, are not ours to read.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(find . -name '.?*' -prune -o -name '*.go' -exec gofmt -l {} +)
if [ -n "$unformatted" ]; then
	printf 'gofmt -w is needed for:\n%s\n' "$unformatted" >&2
	exit 1
fi
