# shellcheck shell=bash
# Processes that outlive this script: started apart from it, known by pid file.
# A folder $state/<name> holds one server's pid, log and data.

: "${state:?}"

say() { echo "services: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# lock makes a second `make services` wait for the first. The lock is released
# when this script ends, so no server may inherit descriptor 9.
lock() {
	mkdir -p "$state"
	exec 9>"$state/lock"
	flock 9
}

# launch starts a server in a session of its own, so that neither Ctrl-C nor the
# end of make reaches it, and nothing that reads our output waits for it.
launch() {
	local name=$1
	shift
	say "starting $name"
	setsid "$@" </dev/null >>"$state/$name/log" 2>&1 9>&- &
	echo "$! $(started_at $!)" >"$state/$name/pid"
}

# started_at prints when process $1 began, in ticks since boot. It tells our
# process from a later one that was given the same pid.
started_at() {
	local stat fields
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	read -ra fields <<<"${stat##*) }" # the name before it may hold spaces
	if [ "${fields[0]}" = Z ]; then
		return 1 # dead, but nobody has collected it
	fi
	echo "${fields[19]}"
}

running() {
	local pid began
	[ -f "$state/$1/pid" ] || return 1
	read -r pid began <"$state/$1/pid" || return 1
	[ -n "$began" ] && [ "$(started_at "$pid")" = "$began" ]
}

# await polls a check for at most $2 seconds, and gives up early when the server
# has ended.
await() {
	local name=$1 until=$((SECONDS + $2))
	shift 2
	until "$@" >/dev/null 2>&1; do
		running "$name" || die_with_log "$name" "has ended"
		[ $SECONDS -lt $until ] || die_with_log "$name" "does not answer"
		sleep 0.2
	done
	# What answered on the port may be somebody else's.
	running "$name" || die_with_log "$name" "has ended"
}

die_with_log() {
	say "$1 $2; the end of .services/$1/log:"
	tail -n 30 "$state/$1/log" >&2
	exit 1
}

# halt ends a server that we started, by signal $2, and by force after 30 seconds.
halt() {
	local name=$1 signal=$2 pid until=$((SECONDS + 30))
	if ! running "$name"; then
		return
	fi
	read -r pid _ <"$state/$name/pid"
	say "stopping $name"
	kill -s "$signal" "$pid"
	while running "$name"; do
		if [ $SECONDS -ge $until ]; then
			say "$name does not end; killing it"
			kill -s KILL "$pid"
			until=$((SECONDS + 30))
		fi
		sleep 0.1
	done
	rm -f "$state/$name/pid"
}
