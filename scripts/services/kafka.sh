# shellcheck shell=bash
# Kafka: one node in KRaft mode, from the jars on Maven Central. The usual
# archive with its scripts is not needed.

: "${here:?}" "${state:?}"

# The second is for repositories that do not have the first yet.
kafka_versions=(4.3.1 4.1.1)

start_kafka() {
	local dir=$state/kafka java
	java=$(java_command)
	mkdir -p "$dir"
	if [ ! -f "$dir/lib/.complete" ]; then
		fetch_kafka
	fi
	claim_port kafka
	claim_port kafka_controller
	kafka_properties >"$dir/server.properties"
	run_kafka=("$java" -Xms512m -Xmx512m -XX:+UseG1GC "-Dlog4j2.configurationFile=file:$here/services/kafka/log4j2.xml" -cp "$dir/lib/*")
	"${run_kafka[@]}" kafka.tools.StorageTool format --ignore-formatted \
		-t "$(cluster_id)" -c "$dir/server.properties" >>"$dir/log" 2>&1 ||
		die_with_log kafka "can't format its storage"
	launch kafka "${run_kafka[@]}" kafka.Kafka "$dir/server.properties"
}

await_kafka() { await kafka 120 kafka_answers; }

# kafka_answers sends an ApiVersions request. In KRaft mode the port opens only
# when the broker is ready, and the answer shows that it is a broker.
kafka_answers() {
	local answer
	# Length 10, API 18, version 0, correlation 1, no client.
	exec 3<>"/dev/tcp/127.0.0.1/$(port_of kafka)" || return 1
	printf '\0\0\0\12\0\22\0\0\0\0\0\1\377\377' >&3
	answer=$(timeout 5 head -c 10 <&3 | od -An -tx1 | tr -d ' \n')
	exec 3>&-
	# Its length, correlation 1, error 0.
	[ "${answer:8}" = 000000010000 ]
}

# fetch_kafka copies the jars from Maven's own cache, so that only the first
# clone on a machine downloads them.
fetch_kafka() {
	local version
	for version in "${kafka_versions[@]}"; do
		say "fetching Kafka $version"
		rm -rf "$state/kafka/lib"
		if copy_jars "$version" >>"$state/kafka/log" 2>&1; then
			touch "$state/kafka/lib/.complete"
			return
		fi
	done
	die_with_log kafka "can't be fetched from Maven Central"
}

copy_jars() {
	mvn -q -B -Dstyle.color=never -f "$here/services/kafka/pom.xml" -Dkafka.version="$1" \
		org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$state/kafka/lib" </dev/null
}

# kafka_properties: one node, so nothing can be replicated; one partition for
# each internal topic, so that it starts fast.
kafka_properties() {
	cat <<-EOT
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$(port_of kafka_controller)
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		listeners=PLAINTEXT://127.0.0.1:$(port_of kafka),CONTROLLER://127.0.0.1:$(port_of kafka_controller)
		advertised.listeners=PLAINTEXT://127.0.0.1:$(port_of kafka)
		listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
		log.dirs=$state/kafka/data
		auto.create.topics.enable=false
		log.segment.delete.delay.ms=1000
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=1
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		share.coordinator.state.topic.num.partitions=1
		group.initial.rebalance.delay.ms=0
	EOT
}

# cluster_id is made once: 16 random bytes in URL-safe base64.
cluster_id() {
	local file=$state/kafka/cluster-id
	if [ ! -f "$file" ]; then
		# It must not begin with a dash, which would be read as an option.
		echo "E$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-20)A" >"$file"
	fi
	cat "$file"
}

# java_command prints a java of version 17 or newer, if there is one.
java_command() {
	local java
	for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" java /usr/lib/jvm/*/bin/java; do
		if have "$java" && is_java_17 "$java"; then
			command -v "$java"
			return
		fi
	done
}

is_java_17() {
	local version
	version=$("$1" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
	[ -n "$version" ] && [ "$version" -ge 17 ]
}
