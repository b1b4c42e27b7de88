#!/usr/bin/env bash
# Has Schemathesis make requests of openapi.json, and look whether `eventstream dev`
# answers them as it says there. Arguments are Schemathesis's. It needs Python 3.10
# or newer with venv, and installs Schemathesis into .services once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=4.32.5
venv=$PWD/.services/schemathesis
port=${PORT:-18001}

if [ "$(cat "$venv/version" 2>/dev/null)" != "$version" ]; then
	mkdir -p .services
	python3 -m venv --clear "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
	echo "$version" >"$venv/version"
fi
go build -o .services/bin/eventstream-fuzz .
.services/bin/eventstream-fuzz dev --rate 0 --api-port "$port" --filter-port "$((port + 1))" --gateway-port "$((port + 2))" >/dev/null &
trap 'kill $!' EXIT
cd scripts/schemathesis
SCHEMATHESIS_HOOKS=hooks PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 "$venv/bin/schemathesis" run "http://127.0.0.1:$port/openapi.json" \
	--wait-for-schema 30 --checks all --continue-on-failure "$@"
