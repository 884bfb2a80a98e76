-- One index a filter, each ending in the order in which answers are given.
CREATE INDEX audit_events_newest         ON audit_events (occurred_at DESC, id DESC);
CREATE INDEX audit_events_by_correlation ON audit_events (correlation_id, occurred_at DESC, id DESC);
CREATE INDEX audit_events_by_type        ON audit_events (event_type, occurred_at DESC, id DESC);
CREATE INDEX audit_events_by_namespace   ON audit_events (namespace, occurred_at DESC, id DESC);
