//! Which events a query asks for, and the SQL that finds them, newest first.
//!
//! Only conditions that were asked for appear in the statement, so that PostgreSQL plans with the
//! index that fits; values are always parameters, never text.

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use crate::event::is_event_type;
use crate::problem::FieldError;

const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) correlation_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) namespace: Option<String>,
    /// Events that occurred at this moment or later.
    pub(crate) since: Option<DateTime<Utc>>,
    /// The most events to answer with.
    pub(crate) limit: i64,
}

impl Filter {
    /// Reads the decoded pairs of a query string. A name that is unknown or given twice is a
    /// fault: a misspelt filter that is ignored answers with everything.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, Vec<FieldError>> {
        let mut filter = Self {
            correlation_id: None,
            event_type: None,
            namespace: None,
            since: None,
            limit: DEFAULT_LIMIT,
        };
        let mut faults = Vec::new();
        for (index, (name, value)) in pairs.iter().enumerate() {
            let fault = if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                Some("is given twice".to_owned())
            } else {
                filter.set(name, value).err()
            };
            faults.extend(fault.map(|message| FieldError::new(name.as_str(), message)));
        }
        if faults.is_empty() { Ok(filter) } else { Err(faults) }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "correlation_id" => self.correlation_id = Some(text(value)?),
            "namespace" => self.namespace = Some(text(value)?),
            "event_type" if is_event_type(value) => self.event_type = Some(value.to_owned()),
            "event_type" => return Err("is not lower-case words joined by dots".to_owned()),
            "since" => {
                let since = DateTime::parse_from_rfc3339(value)
                    .map_err(|_| "is not an RFC 3339 time (write `+` as `%2B`)".to_owned())?;
                self.since = Some(since.to_utc());
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                self.limit = limit.ok_or(format!("is not a number from 1 to {MAX_LIMIT}"))?;
            }
            _ => return Err("is not a parameter of this query".to_owned()),
        }
        Ok(())
    }

    /// The statement and its parameters, in order.
    pub(crate) fn to_sql(&self) -> (String, Vec<&(dyn ToSql + Sync)>) {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::new();
        let mut sql = "SELECT event_id, event_type, service, correlation_id, namespace, resource, \
                       fingerprint, outcome, occurred_at, detail FROM audit_events"
            .to_owned();
        let equal = [
            ("correlation_id", &self.correlation_id),
            ("event_type", &self.event_type),
            ("namespace", &self.namespace),
        ];
        let mut conditions = Vec::new();
        for (column, value) in equal {
            if let Some(value) = value {
                parameters.push(value);
                conditions.push(format!("{column} = ${}", parameters.len()));
            }
        }
        if let Some(since) = &self.since {
            parameters.push(since);
            conditions.push(format!("occurred_at >= ${}", parameters.len()));
        }
        if !conditions.is_empty() {
            sql = format!("{sql} WHERE {}", conditions.join(" AND "));
        }
        parameters.push(&self.limit);
        sql = format!("{sql} ORDER BY occurred_at DESC, id DESC LIMIT ${}", parameters.len());
        (sql, parameters)
    }
}

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err("is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("holds the character U+0000".to_owned());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Filter, Vec<FieldError>> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Filter::parse(&pairs.iter().map(owned).collect::<Vec<_>>())
    }

    fn tail(filter: &Filter) -> (String, usize) {
        let (sql, parameters) = filter.to_sql();
        (sql.split_once("FROM audit_events ").unwrap().1.to_owned(), parameters.len())
    }

    #[test]
    fn nothing_asked_is_the_newest_hundred() {
        let filter = parse(&[]).unwrap();
        assert_eq!(filter.limit, 100);
        assert_eq!(tail(&filter), ("ORDER BY occurred_at DESC, id DESC LIMIT $1".to_owned(), 1));
    }

    #[test]
    fn each_condition_takes_the_next_parameter() {
        let all = [
            ("limit", "7"),
            ("since", "2026-11-21T09:00:00Z"),
            ("namespace", "prod"),
            ("correlation_id", "req-1"),
            ("event_type", "gateway.crd.created"),
        ];
        let expected = "WHERE correlation_id = $1 AND event_type = $2 AND namespace = $3 \
                        AND occurred_at >= $4 ORDER BY occurred_at DESC, id DESC LIMIT $5";
        assert_eq!(tail(&parse(&all).unwrap()), (expected.to_owned(), 5));
        let one = "WHERE namespace = $1 ORDER BY occurred_at DESC, id DESC LIMIT $2";
        assert_eq!(tail(&parse(&[("namespace", "prod")]).unwrap()), (one.to_owned(), 2));
    }

    #[test]
    fn values_never_reach_the_statement() {
        let filter = parse(&[("namespace", "x' OR true --")]).unwrap();
        assert!(!filter.to_sql().0.contains("true"));
    }

    #[test]
    fn a_bad_parameter_is_named() {
        let cases = [
            ("limit", "0", "1 to 1000"),
            ("limit", "1001", "1 to 1000"),
            ("limit", "many", "1 to 1000"),
            ("since", "2026-11-21T09:00:00 01:00", "%2B"),
            ("event_type", "Gateway", "dots"),
            ("namespace", "", "empty"),
            ("correlation_id", "a\0", "U+0000"),
            ("namespcae", "prod", "not a parameter"),
        ];
        for (name, value, words) in cases {
            let faults = parse(&[(name, value)]).unwrap_err();
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].field, name);
            assert!(faults[0].message.contains(words), "{faults:?}");
        }
        assert_eq!(
            parse(&[("limit", "1"), ("limit", "2")]).unwrap_err()[0].message,
            "is given twice"
        );
    }
}
