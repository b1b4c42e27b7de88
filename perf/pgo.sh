#!/usr/bin/env bash
# Whether a profile helps the compiler (PGO):
#
#   perf/pgo.sh make FILE      merges CPU profiles of gateways and filter services under
#                              perf/swarm's fan-out and personal load into FILE
#   perf/pgo.sh compare FILE   benchmarks built with FILE and without, in turn, in one
#                              run, and prints the ratio of the medians; ROUNDS=5
#
# k6 is the limit long before the services are, so that its scenarios would give few
# samples.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$PWD/k6/results/pgo
rounds=${ROUNDS:-5}
packages=(event filter/pipeline lane gateway)
benchmarks='(Decode|Event|Fanout|Personal|Pack|Unpack)$'

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
	for p in "${packages[@]}"; do
		for how in off "$profile"; do
			go test -pgo="$how" -c -o "$out/$(name "$p" "$how")" "./$p"
		done
	done
	rm -f "$out"/{with,without}.txt
	for ((i = 0; i < rounds; i++)); do
		for p in "${packages[@]}"; do
			bench "$p" off >>"$out/without.txt"
			bench "$p" "$profile" >>"$out/with.txt"
		done
	done
	ratios
}

# name of the test program of a package.
name() { echo "${1//\//_}.$([ "$2" = off ] && echo without || echo with).test"; }

bench() {
	(cd "$1" && "$out/$(name "$1" "$2")" -test.run '^$' -test.bench "$benchmarks" -test.benchtime "${BENCHTIME:-50ms}" | grep ^Benchmark)
}

# ratios prints the medians of time per operation as a Markdown table.
ratios() {
	echo '| benchmark | without | with | with / without |'
	echo '|---|--:|--:|--:|'
	awk '
		{ v[FILENAME, $1, ++n[FILENAME, $1]] = $3; if (!($1 in seen)) { seen[$1]; order[++names] = $1 } }
		function median(f, b,   m, i, j, t, a) {
			m = n[f, b]
			for (i = 1; i <= m; i++) a[i] = v[f, b, i] + 0
			for (i = 2; i <= m; i++) for (j = i; j > 1 && a[j] < a[j-1]; j--) { t = a[j]; a[j] = a[j-1]; a[j-1] = t }
			return a[int((m + 1) / 2)]
		}
		END {
			for (k = 1; k <= names; k++) {
				a = median(ARGV[1], order[k]); b = median(ARGV[2], order[k])
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
