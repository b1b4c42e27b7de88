-- What a version of November 2026 wrote into the schema beside this file, by pg_dump. Times of
-- idempotency keys are left out, as they expire, and transactions are among the first.

insert into acks (subscriber_id, acked_at, topic, next, issued, gateway, seat, old_gateway, old_seat) values ('ada', '2026-01-02 03:04:05.678901+00', '01000000-0000-0000-0000-0000000000ff', '{5,7}', '2026-01-02 03:04:05+00', -2, 4294967295, 7, 1);
insert into api_keys (id, name, scope, hash, created_at, revoked_at) values ('0123456789ab', 'shop', 'write', '\x0102030000000000000000000000000000000000000000000000000000000000', '2026-11-01 00:00:00+00', NULL);
insert into api_keys (id, name, scope, hash, created_at, revoked_at) values ('ba9876543210', 'gone', 'read', '\x0400000000000000000000000000000000000000000000000000000000000000', '2026-11-01 00:00:00+00', '2026-11-30 06:20:30.137725+00');
update filter_changes set database = '6297d772-47bd-4d32-836c-9740e5a484ff';
insert into filter_counts (subscriber_id, filters, n_values, n_tried, n_broad, n_bytes) values ('bob', 1, 1, 0, 0, 47);
insert into filter_counts (subscriber_id, filters, n_values, n_tried, n_broad, n_bytes) values ('cy', 1, 1, 0, 0, 47);
insert into filter_counts (subscriber_id, filters, n_values, n_tried, n_broad, n_bytes) values ('ada', 2, 2, 0, 0, 93);
insert into filter_counts (subscriber_id, filters, n_values, n_tried, n_broad, n_bytes) values ('dan', 1, 1, 0, 0, 43);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b025-7cfd-b158-566f7469d781', 'bob', '{"event_types": ["login"], "subscriber_id": "bob"}', 1, NULL, '2026-11-30 06:20:30.118095+00', '2026-11-30 06:20:30.118095+00', '5', 1, 0, 0, 47);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b019-7dd2-a645-d234ddd115a9', 'ada', '{"event_types": ["purchase"], "subscriber_id": "ada"}', 2, NULL, '2026-11-30 06:20:30.114051+00', '2026-11-30 06:20:30.119865+00', '6', 1, 0, 0, 50);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b024-76f5-b2d7-c82ff94a8ec0', 'ada', '{"event_types": ["login"], "subscriber_id": "ada"}', 2, '2026-11-30 06:20:30.12326+00', '2026-11-30 06:20:30.116806+00', '2026-11-30 06:20:30.12326+00', '7', 1, 0, 0, 47);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b02d-73d8-bae3-ec8725eb16d8', 'cy', '{"event_types": ["signup"], "subscriber_id": "cy"}', 1, NULL, '2026-11-30 06:20:30.125194+00', '2026-11-30 06:20:30.125194+00', '8', 1, 0, 0, 47);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b031-7baa-b006-58f959f1a2dc', 'ada', '{"event_types": ["a"], "subscriber_id": "ada"}', 1, NULL, '2026-11-30 06:20:30.128398+00', '2026-11-30 06:20:30.128398+00', '9', 1, 0, 0, 43);
insert into filters (id, subscriber_id, spec, revision, deleted_at, created_at, updated_at, changed_in, n_values, n_tried, n_broad, n_bytes) values ('01a22b1c-b031-7caa-a2dd-fc806d650a73', 'dan', '{"event_types": ["b"], "subscriber_id": "dan"}', 1, NULL, '2026-11-30 06:20:30.128398+00', '2026-11-30 06:20:30.128398+00', '9', 1, 0, 0, 43);
insert into idempotency_keys (key, request, filter_id) values ('key-1', '\xf5a222c68599aeb03d73c9a34bea97aa5881f95f4a9a8257d51c97fb7c622848', '01a22b1c-b02d-73d8-bae3-ec8725eb16d8');
insert into import_keys (key, request, imported) values ('import-1', '\x5354cff915beb0e6c3eaf5cc8df07bb867bcc64a2d8013efae831088b3a5c980', 2);
insert into pipeline (one_row, topic, name, seen_at) values (true, '09000000-0000-0000-0000-000000000000', 'events', '2026-11-30 06:20:30.140227+00');
insert into revocations (kind, id, revoked_at, expires_at, changed_in) values ('subscriber', 'eve', '2026-11-30 06:20:30.138184+00', '2076-11-17 06:20:30.138184+00', '14');
insert into write_trials (one_row, tried_at) values (true, '2026-11-30 06:20:30.141669+00');
