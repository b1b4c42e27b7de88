# shellcheck shell=bash
# The same servers as containers, for machines without Debian's packages.

: "${root:?}" "${state:?}"

engine_answers() { have docker && docker info >/dev/null 2>&1; }

compose() { docker compose --project-directory "$root" "$@"; }

compose_up() {
	compose up -d --wait kafka redis postgres
	mkdir -p "$state"
	touch "$state/docker" # tells stop and status
	compose_env >"$state/env"
	compose_status
}

# compose_env: the ports are those that docker-compose.yml publishes.
compose_env() {
	cat <<-EOT
		EVENTSTREAM_KAFKA=127.0.0.1:9092
		EVENTSTREAM_REDIS=127.0.0.1:6379
		EVENTSTREAM_POSTGRES=postgres://eventstream:eventstream@127.0.0.1:5432/eventstream?sslmode=disable
	EOT
}

compose_stop() {
	compose stop kafka redis postgres
	rm -f "$state/docker"
}

compose_status() {
	compose ps kafka redis postgres
	echo "For a shell: set -a; . .services/env; set +a"
}
