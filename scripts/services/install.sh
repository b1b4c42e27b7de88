# shellcheck shell=bash
# What has to be installed, and the one place that installs it. A tool that is
# there already, from wherever it came, is not installed again.

# install_missing installs the Debian packages of those tools that are missing.
install_missing() {
	local packages
	mapfile -t packages < <(missing_packages "$@")
	if [ ${#packages[@]} = 0 ]; then
		return
	fi
	if ! can_install; then
		echo "Missing: ${packages[*]} (Debian names). Installing them needs apt-get, and root or sudo." >&2
		exit 1
	fi
	echo "Installing ${packages[*]}" >&2
	as_root apt-get -q -o DPkg::Lock::Timeout=300 update >&2
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${packages[@]}" >&2 </dev/null
}

missing_packages() {
	local tool
	for tool in "$@"; do
		package_unless_there "$tool"
	done
}

package_unless_there() {
	case $1 in
	redis) have redis-server && have redis-cli || echo redis-server ;;
	postgres) [ -n "$(postgres_bin)" ] || echo postgresql ;;
	java) [ -n "$(java_command)" ] || echo default-jre-headless ;;
	maven) have mvn || echo maven ;;
	haproxy | nginx | pgbouncer) [ -x "/usr/sbin/$1" ] || have "$1" || echo "$1" ;; # not on everybody's PATH
	node) have node || echo nodejs ;;
	venv) python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv ;;
	cc) compiles_c || printf '%s\n' gcc libc6-dev ;; # for go test -race
	*) have "$1" || echo "$1" ;;
	esac
}

have() { command -v "$1" >/dev/null 2>&1; }

# compiles_c also looks for the headers, which Debian has in another package.
compiles_c() { echo '#include <stdlib.h>' | "${CC:-gcc}" -E - >/dev/null 2>&1; }

can_run_native() {
	[ "$(uname)" = Linux ] || return 1
	[ -z "$(missing_packages redis postgres java maven cc)" ] || can_install
}

can_install() {
	have apt-get || return 1
	[ "$(id -u)" = 0 ] || sudo_works
}

# sudo_works: without a terminal sudo must not ask for a password.
sudo_works() { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}
