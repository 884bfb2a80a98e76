-- One row an event; what happened never changes, so rows are only ever added.
CREATE TABLE audit_events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       uuid        NOT NULL UNIQUE,
    event_type     text        NOT NULL,
    service        text        NOT NULL,
    correlation_id text        NOT NULL,
    namespace      text,
    resource       text,
    fingerprint    text,
    outcome        text        NOT NULL CHECK (outcome IN ('success', 'failure')),
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    detail         jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object')
);
