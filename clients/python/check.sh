#!/usr/bin/env bash
# Builds the package, and tests what was built, with each version of Python that is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/tools"
"$work/tools/bin/pip" -q --disable-pip-version-check install build ruff pyright pytest 'websockets>=15,<18'
"$work/tools/bin/ruff" check --no-cache .
"$work/tools/bin/ruff" format --no-cache --check src tests
"$work/tools/bin/pyright" --pythonpath "$work/tools/bin/python"
"$work/tools/bin/python" -m build -q --outdir "$work/dist" . >/dev/null
cp -r tests "$work/tests" # from the tree, but not beside its src

tested=" "
managed=()
if command -v pyenv >/dev/null; then
	managed=("$(pyenv root)"/versions/3.{10,13}.*/bin/python)
fi
for python in python3 python3.10 python3.13 "${managed[@]}"; do
	# A version manager may have a program of that name for a version that it does not have.
	version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
	case $tested in *" $version "*) continue ;; esac
	"$python" -m venv "$work/$version"
	"$work/$version/bin/pip" -q --disable-pip-version-check install "$work"/dist/*.whl pytest
	echo "Python $version"
	EVENTSTREAM_ROOT=$(cd ../.. && pwd) "$work/$version/bin/python" -m pytest -q -p no:cacheprovider "$work/tests"
	tested="$tested$version "
done
