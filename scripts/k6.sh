#!/usr/bin/env bash
# Installs k6 into .services/bin, once. k6 is a tool: nothing of it is linked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=v1.8.1 # from 1.8.0 on it does not hang at the end when a server pings
bin=$PWD/.services/bin

if [ -x "$bin/k6" ] && "$bin/k6" version | grep -q "$version"; then
	exit 0
fi
mkdir -p "$bin"
GOBIN=$bin go install "go.k6.io/k6@$version"
