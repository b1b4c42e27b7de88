package topic

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type consumerMetrics struct {
	records    prometheus.Counter
	bytes      prometheus.Counter
	seeks      prometheus.Counter
	pauses     prometheus.Counter
	outOfRange prometheus.Counter
	corrupt    prometheus.Counter
	errors     prometheus.Counter
	partitions prometheus.Gauge
	restarts   prometheus.Counter

	pastRecords prometheus.Counter
}

func newConsumerMetrics(reg prometheus.Registerer, queued func() float64) *consumerMetrics {
	m := &consumerMetrics{
		records:    counter("consumer_records_total", "Records fetched from Kafka."),
		bytes:      counter("consumer_bytes_total", "Bytes of the keys and values of the records fetched from Kafka."),
		seeks:      counter("consumer_seeks_total", "Times fetching of a partition was sent to a position."),
		pauses:     counter("consumer_pauses_total", "Times fetching of a partition stopped because its queue was full."),
		outOfRange: counter("consumer_out_of_range_total", "Times Kafka did not hold the position that a worker wanted."),
		corrupt:    counter("consumer_corrupt_batches_total", "Batches that could not be decoded."),
		errors:     counter("consumer_errors_total", "Fetches of a partition that failed."),
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kafka_consumer_partitions",
			Help: "Partitions assigned to this process.",
		}),
		restarts: counter("consumer_worker_restarts_total", "Times a partition's worker failed and was started again."),

		pastRecords: counter("past_records_total", "Records read from Kafka once more, for those who come late."),
	}
	register(reg, m.records, m.bytes, m.seeks, m.pauses, m.outOfRange, m.corrupt, m.errors, m.partitions, m.restarts, m.pastRecords,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kafka_consumer_queue_records",
			Help: "Fetched records that wait for their partition's worker.",
		}, queued))
	return m
}

type producerMetrics struct {
	records     prometheus.Counter
	failures    prometheus.Counter
	deadLetters prometheus.Counter
}

func newProducerMetrics(reg prometheus.Registerer, buffered func() float64) *producerMetrics {
	m := &producerMetrics{
		records:     counter("producer_records_total", "Records that Kafka acknowledged."),
		failures:    counter("producer_failures_total", "Records that could not be produced."),
		deadLetters: counter("producer_dead_letters_total", "Records written to the dead letter topic."),
	}
	register(reg, m.records, m.failures, m.deadLetters,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kafka_producer_buffered_records",
			Help: "Records that wait to be produced or acknowledged.",
		}, buffered))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "kafka_" + name, Help: help})
}

// register adds collectors to reg, which may be nil. Of two consumers on one
// registry, which only tests have, the first is shown.
func register(reg prometheus.Registerer, collectors ...prometheus.Collector) {
	if reg == nil {
		return
	}
	for _, c := range collectors {
		err := reg.Register(c)
		if _, again := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !again {
			panic(err) // two metrics of ours have the same name
		}
	}
}
