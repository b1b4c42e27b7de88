# shellcheck shell=bash
# Ports: chosen once, kept in $state/ports, and chosen again only when somebody
# else has taken them. So clones run side by side, and addresses stay the same.

: "${state:?}"

port_of() { awk -F= -v name="$1" '$1 == name { print $2 }' "$state/ports"; }

# claim_port makes sure that $1 has a port on which it can listen.
claim_port() {
	local name=$1 port
	touch "$state/ports"
	port=$(port_of "$name")
	if [ -n "$port" ] && becomes_free "$port"; then
		return
	fi
	port=$(free_port)
	{
		grep -v "^$name=" "$state/ports" || true
		echo "$name=$port"
	} >"$state/ports.new"
	mv "$state/ports.new" "$state/ports"
}

# becomes_free allows for a killed server whose children are still ending.
becomes_free() {
	local try
	for try in 1 2 3 4 5 6 7 8 9 10; do
		if ! listening "$1"; then
			return 0
		fi
		[ "$try" = 10 ] || sleep 0.2
	done
	return 1
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints a free port, from outside the range from which the kernel
# takes the ports of outgoing connections where that leaves enough.
free_port() {
	local low=10000 high ephemeral port
	read -r ephemeral _ </proc/sys/net/ipv4/ip_local_port_range
	high=$((ephemeral - 1))
	if [ $((high - low)) -lt 1000 ]; then
		high=32000
	fi
	while :; do
		port=$((low + (RANDOM * 32768 + RANDOM) % (high - low)))
		if ! listening "$port" && ! grep -q "=$port\$" "$state/ports"; then
			echo "$port"
			return
		fi
	done
}
