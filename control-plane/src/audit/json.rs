//! A record as JSON: what `doorward audit tail`, `query` and `export` write, one object a record.
//!
//! The form is stable. A member keeps its name and its meaning; a later version may add members, and values of `kind`,
//! `outcome`, `code` and `gapReason`. Every member is always there: a text that is not set is `""`, a number `0`, a list `[]`,
//! and an object `null`. `docs/audit-records.md` describes each.
//!
//! * A member is called as the field of `audit.proto` in lowerCamelCase. The exceptions: times (`time`, `received`, `first`,
//!   `last`) are RFC 3339 in UTC with microseconds, not numbers; `position` is log and cursor in one, to resume after;
//!   `attributes` is an object of lists.
//! * Bytes are lower-case hexadecimal.
//! * `kind` is `decision`, `response`, `gap` or `summary`. `unknown` is a record without a kind; `unknown-7` one whose kind has
//!   the number 7 and is newer than this program.

use doorward_proto::v1::{
    AuditRecord, RecordDecision, RecordKind, RecordOperation, RecordPrincipal, RecordRequest, RecordResponse,
    RecordSummary, StoredRecord,
};
use serde_json::{Map, Value, json};

use super::position::Position;
use crate::text::{hex, time};

/// A record with its place in the log.
pub fn stored(stored: &StoredRecord) -> Value {
    let nothing = AuditRecord::default();
    let record = stored.record.as_ref().unwrap_or(&nothing);
    json!({
        "cursor": stored.cursor, "position": Position::of(stored).to_string(), "kind": kind(record.kind),
        "decisionId": record.decision_id, "time": time(record.time_micros), "received": time(stored.received_micros),
        "emitter": record.emitter, "sequence": record.sequence, "hash": hex(&stored.hash),
        "previousHash": hex(&record.previous_hash), "principal": record.principal.as_ref().map(principal),
        "role": record.role, "department": record.department, "service": record.service, "dialect": record.dialect,
        "operations": operations(record), "asked": record.asked.as_ref().map(request),
        "sent": record.sent.as_ref().map(request), "decision": record.decision.as_ref().map(decision),
        "bundleDigest": hex(&record.bundle_digest), "bundleEpoch": record.bundle_epoch,
        "response": record.response.as_ref().map(response), "traceId": record.trace_id, "gap": record.gap,
        "gapReason": record.gap_reason, "lostEmitter": record.lost_emitter, "lostSequence": record.lost_sequence,
        "model": record.model, "classification": record.classification, "erased": record.erased,
        "policyStale": record.policy_stale, "sourceAddress": record.source_address,
        "summary": record.summary.as_ref().map(summary), "cut": record.cut,
    })
}

/// The operations of a record.
pub fn operations(record: &AuditRecord) -> Vec<Value> {
    record.operations.iter().map(operation).collect()
}

fn kind(number: i32) -> String {
    match RecordKind::try_from(number) {
        Ok(RecordKind::Decision) => "decision".to_owned(),
        Ok(RecordKind::Response) => "response".to_owned(),
        Ok(RecordKind::Gap) => "gap".to_owned(),
        Ok(RecordKind::Summary) => "summary".to_owned(),
        Ok(RecordKind::Unspecified) => "unknown".to_owned(),
        Err(_) => format!("unknown-{number}"),
    }
}

fn operation(operation: &RecordOperation) -> Value {
    json!({
        "component": operation.component, "verb": operation.verb, "visible": operation.visible,
        "masked": operation.masked, "rows": operation.rows, "maxRows": operation.max_rows, "check": operation.check,
    })
}

fn principal(principal: &RecordPrincipal) -> Value {
    let attributes: Map<String, Value> =
        principal.attributes.iter().map(|attribute| (attribute.name.clone(), json!(attribute.values))).collect();
    json!({
        "user": principal.user, "provider": principal.provider, "groups": principal.groups, "tenant": principal.tenant,
        "attributes": attributes, "agents": principal.agents, "key": principal.key, "tokenId": principal.token_id,
        "tokenSha256": principal.token_sha256, "meshIdentity": principal.mesh_identity,
    })
}

fn request(request: &RecordRequest) -> Value {
    json!({
        "method": request.method, "authority": request.authority, "path": request.path,
        "sha256": hex(&request.sha256), "bodySha256": hex(&request.body_sha256),
    })
}

fn decision(decision: &RecordDecision) -> Value {
    json!({
        "outcome": decision.outcome, "code": decision.code, "status": decision.status, "detail": decision.detail,
        "would": decision.would, "wouldCode": decision.would_code, "durationNanos": decision.duration_nanos,
    })
}

fn response(response: &RecordResponse) -> Value {
    json!({
        "decisionId": response.decision_id, "status": response.status, "durationMicros": response.duration_micros,
        "bytes": response.bytes, "records": response.records, "code": response.code,
    })
}

fn summary(summary: &RecordSummary) -> Value {
    json!({ "count": summary.count, "first": time(summary.first_micros), "last": time(summary.last_micros) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use doorward_proto::{FILE_DESCRIPTOR_SET, v1::RecordAttribute};
    use prost::Message;

    use super::*;

    /// Fields of the messages that JSON leaves out on purpose, with the reason. None so far.
    const LEFT_OUT: [(&str, &str, &str); 0] = [];
    /// Fields whose member is not called as they are.
    const RENAMED: [(&str, &str, &str); 6] = [
        ("StoredRecord", "received_micros", "received"),
        ("StoredRecord", "log", "position"),
        ("AuditRecord", "time_micros", "time"),
        ("RecordSummary", "first_micros", "first"),
        ("RecordSummary", "last_micros", "last"),
        // The record's members stand beside those of its place in the log.
        ("StoredRecord", "record", ""),
    ];

    // What of descriptor.proto is looked at.
    #[derive(Clone, PartialEq, Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        file: Vec<File>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(message, repeated, tag = "4")]
        messages: Vec<Described>,
        #[prost(message, repeated, tag = "5")]
        enums: Vec<Described>,
    }
    /// A message with its fields, or an enum with its values: both have name 1 and list 2.
    #[derive(Clone, PartialEq, Message)]
    struct Described {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        parts: Vec<Part>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Part {
        #[prost(string, tag = "1")]
        name: String,
        /// The number of an enum's value.
        #[prost(int32, tag = "2")]
        value: i32,
    }

    fn described(name: &str) -> Vec<Part> {
        let files = Files::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let all = files.into_iter().flat_map(|file| file.messages.into_iter().chain(file.enums));
        all.into_iter().find(|described| described.name == name).unwrap().parts
    }

    /// Without `..Default::default()`: a new field does not compile until it has a value here.
    fn full() -> StoredRecord {
        let request = |path: &str| RecordRequest {
            method: "GET".into(),
            authority: "api".into(),
            path: path.into(),
            sha256: vec![1],
            body_sha256: vec![2],
        };
        let list = |text: &str| vec![text.to_owned()];
        StoredRecord {
            cursor: 7,
            log: "00000000000000ab".into(),
            hash: vec![3],
            received_micros: 1_000_000,
            record: Some(AuditRecord {
                decision_id: "d".into(),
                time_micros: 2_000_000,
                emitter: "n/0/b".into(),
                sequence: 4,
                previous_hash: vec![5],
                kind: RecordKind::Decision.into(),
                principal: Some(RecordPrincipal {
                    user: "u".into(),
                    provider: "p".into(),
                    groups: list("g"),
                    tenant: "t".into(),
                    attributes: vec![RecordAttribute { name: "region".into(), values: list("west") }],
                    agents: list("a"),
                    key: "k".into(),
                    token_id: "jti".into(),
                    token_sha256: "00".into(),
                    mesh_identity: "spiffe://a/b".into(),
                }),
                role: "r".into(),
                department: "sales".into(),
                service: "shop".into(),
                operations: vec![RecordOperation {
                    component: "orders".into(),
                    verb: "GET".into(),
                    visible: list("id"),
                    masked: list("ssn"),
                    rows: "a = 1".into(),
                    max_rows: 9,
                    check: "b = 2".into(),
                }],
                dialect: "http".into(),
                asked: Some(request("/a")),
                sent: Some(request("/b")),
                decision: Some(RecordDecision {
                    outcome: "deny".into(),
                    code: "field_denied".into(),
                    status: 403,
                    detail: "no".into(),
                    would: "would_deny".into(),
                    would_code: "x".into(),
                    duration_nanos: 8,
                }),
                bundle_digest: vec![6],
                bundle_epoch: 10,
                response: Some(RecordResponse {
                    decision_id: "d".into(),
                    status: 200,
                    duration_micros: 11,
                    bytes: 12,
                    records: 13,
                    code: "y".into(),
                }),
                trace_id: "trace".into(),
                gap: 14,
                gap_reason: "queue_full".into(),
                model: "m".into(),
                classification: list("pii"),
                erased: list("asked.path"),
                policy_stale: true,
                source_address: "10.0.0.7".into(),
                lost_emitter: "n/1/b".into(),
                lost_sequence: 15,
                summary: Some(RecordSummary { count: 16, first_micros: 3_000_000, last_micros: 4_000_000 }),
                cut: list("asked.path"),
            }),
        }
    }

    fn camel(name: &str) -> String {
        let mut parts = name.split('_');
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
    }

    /// The message, its members in the full record, and whether they stand beside the members of another message.
    fn members(json: &Value) -> Vec<(&'static str, &Value)> {
        vec![
            ("StoredRecord", json),
            ("AuditRecord", json),
            ("RecordPrincipal", &json["principal"]),
            ("RecordOperation", &json["operations"][0]),
            ("RecordRequest", &json["asked"]),
            ("RecordRequest", &json["sent"]),
            ("RecordDecision", &json["decision"]),
            ("RecordResponse", &json["response"]),
            ("RecordSummary", &json["summary"]),
        ]
    }

    fn member_of(message: &str, field: &str) -> Option<String> {
        if LEFT_OUT.iter().any(|left| (left.0, left.1) == (message, field)) {
            return None;
        }
        let renamed = RENAMED.iter().find(|renamed| (renamed.0, renamed.1) == (message, field));
        Some(renamed.map_or_else(|| camel(field), |renamed| renamed.2.to_owned())).filter(|name| !name.is_empty())
    }

    #[test]
    fn every_field_of_a_record_is_a_member_or_is_left_out_on_purpose() {
        let json = stored(&full());
        let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
        for (message, object) in members(&json) {
            for field in described(message) {
                if let Some(name) = member_of(message, &field.name) {
                    let value = object.get(&name);
                    assert!(value.is_some_and(is_set), "{message}.{} as `{name}`: {value:?}", field.name);
                }
            }
        }
        assert_eq!(json["principal"]["attributes"]["region"][0], "west");
    }

    #[test]
    fn every_member_is_of_a_field_and_is_described_in_the_documentation() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit-records.md")).unwrap();
        let json = stored(&full());
        let whole = ["StoredRecord", "AuditRecord"];
        for (message, object) in members(&json) {
            let messages = if whole.contains(&message) { &whole[..] } else { &[message] };
            let fields = messages
                .iter()
                .flat_map(|message| described(message).into_iter().filter_map(|field| member_of(message, &field.name)));
            let fields: BTreeSet<String> = fields.collect();
            for name in object.as_object().unwrap().keys() {
                assert!(fields.contains(name), "`{name}` is of no field of {message}");
                assert!(page.contains(&format!("`{name}`")), "docs/audit-records.md does not describe `{name}`");
            }
        }
    }

    #[test]
    fn every_member_is_there_also_where_nothing_is_set() {
        let (empty, full) = (stored(&StoredRecord::default()), stored(&full()));
        let names = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&empty), names(&full));
        assert_eq!((&empty["principal"], &empty["cut"], &empty["time"]), (&Value::Null, &json!([]), &json!("")));
        assert_eq!((&full["hash"], &full["position"]), (&json!("03"), &json!("00000000000000ab:7")));
        assert_eq!(full["summary"]["last"], "1970-01-01T00:00:04.000000Z");
    }

    #[test]
    fn every_kind_has_a_name_of_its_own_and_a_later_one_is_told_by_its_number() {
        let mut names = BTreeSet::new();
        for value in described("RecordKind") {
            assert_eq!(kind(value.value), value.name.to_lowercase().replace("record_kind_unspecified", "unknown"));
            names.insert(kind(value.value));
        }
        assert_eq!(names.len(), 5);
        assert_eq!((kind(99), kind(-1)), ("unknown-99".to_owned(), "unknown--1".to_owned()));
    }
}
