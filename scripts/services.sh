#!/usr/bin/env bash
# Starts and stops the servers that the tests and a local run need: Kafka, Redis
# and PostgreSQL. Everything is kept in .services; .services/env says where the
# servers are.
#
#   scripts/services.sh start|stop|status
#
# EVENTSTREAM_SERVICES=native or =docker forces one way of running them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
state=$root/.services
servers=(redis postgres kafka)

# shellcheck source=scripts/services/process.sh
source "$here/services/process.sh"
# shellcheck source=scripts/services/ports.sh
source "$here/services/ports.sh"
# shellcheck source=scripts/services/install.sh
source "$here/services/install.sh"
# shellcheck source=scripts/services/redis.sh
source "$here/services/redis.sh"
# shellcheck source=scripts/services/postgres.sh
source "$here/services/postgres.sh"
# shellcheck source=scripts/services/kafka.sh
source "$here/services/kafka.sh"
# shellcheck source=scripts/services/compose.sh
source "$here/services/compose.sh"

# start brings up what is not running yet, and waits until it all answers.
start() {
	local way
	way=$(choose_way)
	if [ "$way" = docker ]; then
		compose_up
		return
	fi
	if [ -f "$state/docker" ]; then
		compose_stop # one way at a time
	fi
	lock
	install_missing redis postgres java maven cc haproxy nginx pgbouncer
	local server
	for server in "${servers[@]}"; do
		if ! running "$server"; then
			"start_$server"
		fi
	done
	for server in "${servers[@]}"; do
		"await_$server"
	done
	write_env
	status
}

# choose_way prints native or docker. Native comes first: it is what CI runs.
choose_way() {
	if [ -n "${EVENTSTREAM_SERVICES:-}" ]; then
		echo "$EVENTSTREAM_SERVICES"
	elif can_run_native; then
		echo native
	elif engine_answers; then
		echo docker
	else
		explain_choices >&2
		exit 1
	fi
}

explain_choices() {
	cat <<-EOT
		The tests need Kafka, Redis and PostgreSQL, and nothing here can run them. One of these helps:
		  - a container engine that answers to "docker info", with "docker compose"
		  - Debian or Ubuntu with root or sudo, and then "make services" again
		  - on another Linux: redis-server, PostgreSQL, Java 17 or newer, Maven and a C compiler
	EOT
	if [ "$(uname)" = Linux ]; then
		echo "Missing now (Debian names): $(missing_packages redis postgres java maven cc | xargs)"
	fi
}

stop() {
	if [ -f "$state/docker" ]; then
		compose_stop
	fi
	if [ -d "$state" ] && [ "$(uname)" = Linux ]; then
		lock
		halt kafka TERM
		halt redis TERM
		halt postgres INT # disconnects its clients; TERM would wait for them
	fi
}

# write_env tells others where the servers are, as KEY=VALUE lines that both a
# shell and a simple reader understand.
write_env() {
	(
		umask 077 # it holds a password
		cat >"$state/env.new" <<-EOT
			EVENTSTREAM_KAFKA=127.0.0.1:$(port_of kafka)
			EVENTSTREAM_REDIS=127.0.0.1:$(port_of redis)
			EVENTSTREAM_POSTGRES=$(postgres_dsn)
		EOT
	)
	mv "$state/env.new" "$state/env"
}

status() {
	if [ -f "$state/docker" ]; then
		compose_status
		return
	fi
	local server
	for server in "${servers[@]}"; do
		if running "$server"; then
			printf '%-9s 127.0.0.1:%-6s log: .services/%s/log\n' "$server" "$(port_of "$server")" "$server"
		else
			printf '%-9s not running\n' "$server"
		fi
	done
	echo "For a shell: set -a; . .services/env; set +a"
}

case ${1:-} in
start | stop | status) "$1" ;;
*)
	echo "usage: $0 start|stop|status" >&2
	exit 2
	;;
esac
