"""The predecessor's filter service: takes events off Kafka with kafka-python, tries
all filters, which come from PostgreSQL by psycopg2, and appends to a Redis stream per
user whatever that user's filters match."""

import json
import os
import time

import psycopg2
import redis
from kafka import KafkaConsumer

SCHEMA = """CREATE TABLE IF NOT EXISTS baseline_filters (
    subscriber_id text PRIMARY KEY, event_types text[], user_ids text[])"""
KEPT = 1000  # events in a user's stream
RELOAD_S = 5


def load(db):
    """Returns the filters as (subscriber, event types, user ids); an empty set allows all."""
    with db, db.cursor() as cursor:
        cursor.execute("SELECT subscriber_id, event_types, user_ids FROM baseline_filters")
        return [(who, set(types or ()), set(users or ())) for who, types, users in cursor]


def matching(filters, event):
    for who, types, users in filters:
        if (not types or event.get("event_type") in types) and (not users or event.get("user_id") in users):
            yield who


def message(record, event):
    """The bytes that the gateway sends, in the form that ours has."""
    one = {"id": f"{record.partition}-{record.offset}", "ts": record.timestamp, "data": event}
    return json.dumps({"type": "events", "events": [one]})


def main():
    cache = redis.Redis.from_url(os.environ["BASELINE_REDIS"])
    db = psycopg2.connect(os.environ["BASELINE_POSTGRES"])
    with db, db.cursor() as cursor:
        cursor.execute(SCHEMA)
    consumer = KafkaConsumer(
        os.environ["BASELINE_TOPIC"], bootstrap_servers=os.environ["BASELINE_KAFKA"].split(","),
        group_id=os.environ["BASELINE_TOPIC"] + "-baseline", auto_offset_reset="latest",
        metadata_max_age_ms=1000)  # or a topic that was just made may not be seen for minutes
    while not consumer.assignment():
        consumer.poll(timeout_ms=100)
    for partition in consumer.assignment():
        consumer.position(partition)
    loaded = float("-inf")
    while True:
        batch = consumer.poll(timeout_ms=100)
        if time.monotonic() - loaded > RELOAD_S:
            filters, loaded = load(db), time.monotonic()
            cache.set("baseline:filters", len(filters))
        pipe = cache.pipeline(transaction=False)
        for records in batch.values():
            for record in records:
                event = json.loads(record.value)
                for who in matching(filters, event):
                    pipe.xadd(f"user:{who}", {"message": message(record, event)}, maxlen=KEPT, approximate=True)
        pipe.execute()


if __name__ == "__main__":
    main()
