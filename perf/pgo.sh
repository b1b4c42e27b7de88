#!/usr/bin/env bash
# Whether a profile helps the compiler (PGO):
#
#   perf/pgo.sh make FILE      merges CPU profiles of gateways and filter services under
#                              perf/swarm's fan-out and personal load into FILE
#   perf/pgo.sh compare FILE   benchmarks, and the gateway under perf/swarm, built with
#                              FILE and without, in turn; ROUNDS=5
#
# k6 is the limit long before the services are, so that its scenarios would give few
# samples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$PWD/k6/results/pgo
rounds=${ROUNDS:-5}
declare -A benchmarks=(
	[event]='Decode$'
	[filter/pipeline]='Event$/filters=(1000|100000)$'
	[lane]='(Pack|Unpack)$'
	[gateway/delivery]='(Fanout|Personal)$'
)

make_profile() {
	go build -pgo=off -o .services/bin/eventstream-load .
	go run ./perf/swarm --profile --duration 20s --rate 20 --out "$out/fanout"
	go run ./perf/swarm --profile --duration 20s --each --rate 5000 --out "$out/personal"
	go tool pprof -proto "$out"/{fanout,personal}/ours/{gateway,filter}.cpu.pb.gz >"$1"
}

compare() {
	local profile p how i
	profile=$(realpath "$1")
	mkdir -p "$out"
	for p in "${!benchmarks[@]}"; do
		for how in off "$profile"; do
			go test -pgo="$how" -c -o "$out/$(name "$p" "$how")" "./$p"
		done
	done
	go build -pgo=off -o "$out/eventstream.without" .
	go build -pgo="$profile" -o "$out/eventstream.with" .
	rm -f "$out"/{with,without}.txt
	for ((i = 0; i < rounds; i++)); do
		for p in "${!benchmarks[@]}"; do
			bench "$p" off >>"$out/without.txt"
			bench "$p" "$profile" >>"$out/with.txt"
		done
		swarm without
		swarm with
	done
	ratios
}

# name of the test program of a package.
name() { echo "${1//\//_}.$([ "$2" = off ] && echo without || echo with).test"; }

bench() {
	(cd "$1" && "$out/$(name "$1" "$2")" -test.run '^$' -test.bench "${benchmarks[$1]}" -test.benchtime "${BENCHTIME:-50ms}" | grep ^Benchmark)
}

# swarm adds the gateway's CPU time for a delivery in a fan-out to 10,000.
swarm() {
	go run ./perf/swarm --exe "$out/eventstream.$1" --rate 15 --duration 8s --out "$out/swarm" >/dev/null
	awk -F'|' '/^\| gateway/ { print "swarm/CPU-of-gateway 1", 1e9 / $4 }' "$out/swarm/ours/summary.md" >>"$out/$1.txt"
}

# ratios prints the least time per operation of all rounds as a Markdown table: what
# neighbours add is never negative.
ratios() {
	echo '| benchmark | without | with | with / without |'
	echo '|---|--:|--:|--:|'
	awk '
		!((FILENAME, $1) in least) || $3 < least[FILENAME, $1] { least[FILENAME, $1] = $3 }
		!($1 in seen) { seen[$1]; order[++names] = $1 }
		END {
			for (k = 1; k <= names; k++) {
				a = least[ARGV[1], order[k]]; b = least[ARGV[2], order[k]]
				printf "| %s | %.0f ns | %.0f ns | %.2f |\n", order[k], a, b, b / a
				sum += log(b / a)
			}
			printf "| geometric mean | | | %.3f |\n", exp(sum / names)
		}' "$out/without.txt" "$out/with.txt"
}

case "${1:-} $#" in
"make 2") make_profile "$2" ;;
"compare 2") compare "$2" ;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
