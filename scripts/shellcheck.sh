#!/bin/sh
# Runs shellcheck over all shell scripts, where it is installed.
set -eu
cd "$(dirname "$0")/.."

if ! command -v shellcheck >/dev/null; then
	echo "shellcheck is not installed: scripts not checked"
	exit 0
fi
shellcheck -x .ci/run scripts/*.sh scripts/services/*.sh perf/*.sh perf/baseline/*.sh
