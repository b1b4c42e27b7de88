#!/usr/bin/env bash
# Tests the clients in other languages, as the packages that users get: TypeScript where there is
# Node 20 or later, Python with each version that is there. Both at once; they mostly wait.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
# shellcheck source=scripts/services/install.sh
source "$here/services/install.sh"

if can_install; then
	install_missing node npm chromium venv
fi
mkdir -p "$root/.services/bin"
cd "$root"
go build -o .services/bin/eventstream-clients .
go build -o .services/bin/conformance ./internal/conformance/serve

typescript() {
	if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
		echo "clients/typescript skipped: it needs Node 20 or later"
		return
	fi
	cd "$root/clients/typescript"
	npm ci --no-audit --no-fund --loglevel error
	EVENTSTREAM_BIN=$root/.services/bin/eventstream-clients CONFORMANCE_BIN=$root/.services/bin/conformance npm test
}

python() {
	if [ -n "$(package_unless_there venv)" ]; then
		echo "clients/python skipped: it needs python3 with venv"
		return
	fi
	"$root/clients/python/check.sh"
}

typescript >"$root/.services/typescript.out" 2>&1 &
first=$!
failed=0
python || failed=1
wait "$first" || {
	cat "$root/.services/typescript.out"
	exit 1
}
tail -n 9 "$root/.services/typescript.out"
exit "$failed"
