# shellcheck shell=bash
# Redis, set up as production must be: it may refuse writes, but never evict.

: "${state:?}"

start_redis() {
	mkdir -p "$state/redis/data"
	claim_port redis
	cat >"$state/redis/redis.conf" <<-EOT
		bind 127.0.0.1
		port $(port_of redis)
		dir "$state/redis/data"
		daemonize no
		appendonly yes
		maxmemory-policy noeviction
	EOT
	launch redis redis-server "$state/redis/redis.conf"
}

await_redis() { await redis 30 redis_answers; }

redis_answers() {
	[ "$(redis-cli -h 127.0.0.1 -p "$(port_of redis)" ping)" = PONG ]
}
