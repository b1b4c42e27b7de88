#!/usr/bin/env bash
# Installs what the predecessor needs into .services/baseline, once. It wants
# Python 3.10 or newer with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=$PWD/.services/baseline
pins=perf/baseline/requirements.txt

if cmp -s "$pins" "$venv/installed.txt"; then
	exit 0
fi
mkdir -p .services
python3 -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$pins"
"$venv/bin/pip" check
cp "$pins" "$venv/installed.txt"
