#!/usr/bin/env bash
# Prints the command that runs Kafka's own tools, for perf/limits, and fetches them
# once. They run on the jars of the broker of `make services`. It prints nothing where
# that broker is a container.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$(dirname "$here")/.services

# shellcheck source=scripts/services/install.sh
source "$here/services/install.sh"
# shellcheck source=scripts/services/kafka.sh
source "$here/services/kafka.sh"

clients=("$state"/kafka/lib/kafka-clients-*.jar)
if [ ! -f "${clients[0]}" ]; then
	exit 0
fi
version=$(basename "${clients[0]}" .jar)
version=${version#kafka-clients-}
if [ ! -f "$state/kafka/tools/kafka-tools-$version.jar" ]; then
	mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
		-Dartifact="org.apache.kafka:kafka-tools:$version" -DoutputDirectory="$state/kafka/tools" </dev/null >&2
fi
echo "$(java_command) -Dlog4j2.configurationFile=file:$here/services/kafka/log4j2.xml -cp $state/kafka/lib/*:$state/kafka/tools/*"
