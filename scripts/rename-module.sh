#!/bin/sh
# Gives the Go module another name, in its imports, go.mod files and documents:
#   scripts/rename-module.sh example.com/org/eventstream
# It changes files of the working tree and commits nothing. It can be repeated.
set -eu
cd "$(dirname "$0")/.."

old=$(sed -n 's/^module //p' go.mod)
new=${1-}
if [ $# -ne 1 ] || ! printf '%s\n' "$new" | grep -Eqx '[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)*/eventstream'; then
	echo "usage: scripts/rename-module.sh example.com/org/eventstream: a domain, and eventstream at the end, which is the program's name; got \"$new\"" >&2
	exit 2
fi
at=$(printf '%s' "$old" | sed 's/\./\\./g')

# Folders that begin with a dot, such as the servers' data in .services, are not ours.
files() { find . -name '.?*' -prune -o -type f -name "$1" -print; }

files '*.go' | while read -r f; do
	# Lines that are an import, alone or in a list, with or without a name.
	sed "s|^\([[:space:]]*\(import \)\{0,1\}\([A-Za-z_.][A-Za-z0-9_]* \)\{0,1\}\"\)$at\(/[A-Za-z0-9_/-]*\"\)|\1$new\4|" "$f" >"$f.new"
	if cmp -s "$f" "$f.new"; then rm "$f.new"; else
		cat "$f.new" >"$f" # it keeps its mode
		rm "$f.new"
		gofmt -w "$f"
	fi
done
files go.mod | while read -r f; do
	sed "s|^\(module \)$at\(/.*\)\{0,1\}\$|\1$new\2|; s|^\(replace \)$at =>|\1$new =>|; s|^\(	\)$at v|\1$new v|" "$f" >"$f.new"
	cat "$f.new" >"$f"
	rm "$f.new"
	(cd "$(dirname "$f")" && go mod edit -fmt)
done
files '*.md' | while read -r f; do
	sed "s|\"$at/|\"$new/|g; s|-require=$at@|-require=$new@|g; s|-replace=$at=|-replace=$new=|g" "$f" >"$f.new"
	cat "$f.new" >"$f"
	rm "$f.new"
done
echo "$old is $new now; look at git diff, and run make check"
