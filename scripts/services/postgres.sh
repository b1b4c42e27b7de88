# shellcheck shell=bash
# PostgreSQL, with a data folder of its own beside any cluster of the system.

: "${root:?}" "${state:?}"

start_postgres() {
	local dir=$state/postgres bin
	mkdir -p "$dir"
	bin=$(postgres_bin)
	[ -n "$bin" ] || die "no PostgreSQL of the version of .services/postgres/data; install it or delete that folder"
	if [ ! -f "$dir/data/PG_VERSION" ]; then
		create_cluster "$dir" "$bin"
	fi
	clear_lock "$(readlink -f "$dir/data")"
	claim_port postgres
	# No Unix socket: its path would be too long in a deep folder.
	# shellcheck disable=SC2046 # as_postgres_command prints words
	launch postgres $(as_postgres_command) "$bin/postgres" -D "$(readlink -f "$dir/data")" \
		-c listen_addresses=127.0.0.1 -c port="$(port_of postgres)" \
		-c unix_socket_directories= -c max_connections=200
}

# clear_lock removes the lock file of a server that was killed. In a container
# where nobody collects dead processes it names a zombie, which a new server takes
# for alive. Children of the killed server may still write: they end first.
clear_lock() {
	local data=$1 until=$((SECONDS + 30))
	while is_worked_in "$data"; do
		[ $SECONDS -lt $until ] || die "processes of a killed PostgreSQL do not end; they work in $data"
		sleep 0.2
	done
	rm -f "$data/postmaster.pid"
}

# is_worked_in tells whether $1 is the current folder of any process, as a data
# folder is for all processes of its server.
is_worked_in() {
	local process
	for process in /proc/[0-9]*; do
		if [ "$(readlink "$process/cwd")" = "$1" ]; then
			return 0
		fi
	done 2>/dev/null
	return 1
}

await_postgres() {
	await postgres 60 postgres_answers postgres
	postgres_answers eventstream || postgres_query postgres 'CREATE DATABASE eventstream' >/dev/null
}

postgres_answers() { postgres_query "$1" 'SELECT 1' >/dev/null 2>&1; }

postgres_query() {
	"$(postgres_bin)/psql" -X -q -v ON_ERROR_STOP=1 -c "$2" "$(postgres_dsn "$1")"
}

postgres_dsn() {
	echo "postgres://eventstream:$(cat "$state/postgres/password")@127.0.0.1:$(port_of postgres)/${1:-eventstream}?sslmode=disable"
}

# create_cluster asks for a password, because whoever reaches the port as a
# superuser may run programs as the server's user.
create_cluster() {
	local dir=$1 bin=$2 data password
	say "creating a PostgreSQL cluster"
	data=$(postgres_data)
	clear_lock "$data" # somebody may have deleted .services under a running server
	rm -rf "$data"
	if [ "$data" != "$dir/data" ]; then
		ln -sfn "$data" "$dir/data"
	fi
	password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	(umask 077 && echo "$password" >"$dir/password")
	mkdir -m 700 "$data"
	if [ "$(id -u)" = 0 ]; then
		chown postgres "$data"
	fi
	# The server's user can't open our file. It can read it as stdin, and open a
	# pipe of its own making.
	# shellcheck disable=SC2016,SC2046
	(cd / && $(as_postgres_command) sh -c 'cat | "$0" "$@"' \
		"$bin/initdb" -D "$data" -U eventstream -E UTF8 --locale=C \
		--auth=scram-sha-256 --pwfile=/dev/stdin <"$dir/password" >"$dir/log" 2>&1) ||
		die_with_log postgres "can't be set up: initdb has failed"
}

# postgres_data prints where the data goes. The server refuses to run as root,
# and the user it runs as may not be able to enter the folder of this repository.
postgres_data() {
	# shellcheck disable=SC2046
	if $(as_postgres_command) test -x "$state/postgres"; then
		echo "$state/postgres/data"
	else
		echo "${TMPDIR:-/tmp}/eventstream-postgres-$(echo "$root" | cksum | cut -d' ' -f1)"
	fi
}

# as_postgres_command prints what goes before a command of the server. setpriv
# becomes the command, so that the pid that we keep is the server's.
as_postgres_command() {
	if [ "$(id -u)" = 0 ]; then
		echo setpriv --reuid=postgres --regid=postgres --init-groups
	fi
}

# postgres_bin prints the folder of the server's programs: of the version that
# wrote the data, else of the newest. Debian has them outside PATH.
postgres_bin() {
	local version bin
	version=$(cat "$state/postgres/data/PG_VERSION" 2>/dev/null) || version='*'
	# shellcheck disable=SC2086 # the version may be a pattern
	bin=$(printf '%s\n' /usr/lib/postgresql/$version/bin | sort -V | tail -n 1)
	if [ -x "$bin/postgres" ]; then
		echo "$bin"
	elif [ ! -d /usr/lib/postgresql ] && have postgres; then
		dirname "$(command -v postgres)"
	fi
}
