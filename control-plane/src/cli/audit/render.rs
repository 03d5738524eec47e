//! Records for people, and as JSON.

use std::io::Write as _;

use doorward_proto::v1::{AuditRecord, RecordKind, StoredRecord};

use super::{
    super::output::{BOLD, DIM, GREEN, RED, YELLOW, clean, paint, time},
    args::RecordFormat,
};
use crate::audit::json;

/// Writes records to standard output.
pub(super) struct Printer {
    format: RecordFormat,
    count: u64,
}

impl Printer {
    pub(super) fn new(format: RecordFormat) -> Self {
        Printer { format, count: 0 }
    }

    pub(super) fn print(&mut self, stored: &StoredRecord) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        self.count += 1;
        match self.format {
            RecordFormat::Table => {
                if self.count == 1 {
                    let header = format!(
                        "{:<27} {:<8} {:<20} {:<24} {:<16} {:<16} {}",
                        "TIME", "OUTCOME", "CODE", "USER", "ROLE", "SERVICE", "WHAT"
                    );
                    writeln!(out, "{}", paint(BOLD, &header))?;
                }
                writeln!(out, "{}", line(stored))?;
            }
            RecordFormat::Json => {
                let text = format!("{:#}", json::stored(stored)).replace('\n', "\n  ");
                write!(out, "{}\n  {text}", if self.count == 1 { "[" } else { "," })?;
            }
            RecordFormat::Jsonl => writeln!(out, "{}", json::stored(stored))?,
        }
        Ok(out.flush()?)
    }

    pub(super) fn flush(&self) -> anyhow::Result<()> {
        Ok(std::io::stdout().flush()?)
    }

    pub(super) fn end(&self) -> anyhow::Result<()> {
        if self.format == RecordFormat::Json {
            writeln!(std::io::stdout(), "{}", if self.count == 0 { "[]" } else { "\n]" })?;
        }
        Ok(())
    }
}

fn line(stored: &StoredRecord) -> String {
    let record = stored.record.clone().unwrap_or_default();
    let principal = record.principal.clone().unwrap_or_default();
    let decision = record.decision.clone().unwrap_or_default();
    let mut user = if principal.user.is_empty() { "-".to_owned() } else { clean(&principal.user) };
    for agent in &principal.agents {
        user.push_str(&format!("←{}", clean(agent)));
    }
    if !principal.key.is_empty() {
        user.push_str(&format!(" key:{}", clean(&principal.key)));
    }
    let (outcome, code, what) = match record.kind() {
        RecordKind::Gap => ("gap".to_owned(), record.gap_reason.clone(), missing(&record)),
        RecordKind::Summary => ("summed".to_owned(), decision.code.clone(), summed(&record)),
        RecordKind::Response => {
            let response = record.response.clone().unwrap_or_default();
            let what = format!(
                "{} {} bytes {} records {}",
                response.status, response.bytes, response.records, response.decision_id
            );
            ("response".to_owned(), response.code, what)
        }
        _ => {
            let asked = record.asked.clone().unwrap_or_default();
            let shadow = if decision.would.is_empty() { String::new() } else { format!(" ({})", decision.would) };
            (decision.outcome, decision.code, format!("{} {}{shadow}", asked.method, asked.path))
        }
    };
    let style = match outcome.as_str() {
        "allow" => GREEN,
        "rewrite" => YELLOW,
        "response" => DIM,
        _ => RED,
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { clean(text) };
    format!(
        "{:<27} {} {:<20} {:<24} {:<16} {:<16} {}",
        time(record.time_micros),
        paint(style, &format!("{:<8}", clean(&outcome))),
        or_dash(&code),
        user,
        or_dash(&record.role),
        or_dash(&record.service),
        clean(&what)
    )
}

/// What a summed record says.
fn summed(record: &AuditRecord) -> String {
    let summary = record.summary.unwrap_or_default();
    let from = if record.source_address.is_empty() { "several addresses" } else { &record.source_address };
    format!(
        "{} MORE like this from {from}, between {} and {}; none of them has a record of its own",
        summary.count,
        time(summary.first_micros),
        time(summary.last_micros)
    )
}

/// What a gap record says.
fn missing(record: &AuditRecord) -> String {
    match (record.gap, record.lost_emitter.as_str()) {
        (0, "") => "an unknown number of records is missing".to_owned(),
        (0, lost) => {
            format!("an unknown number of records of {lost} is missing; it had numbered {}", record.lost_sequence)
        }
        (gap, _) => format!("{gap} records are missing"),
    }
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::RecordSummary;

    use super::*;

    #[test]
    fn a_sum_says_how_many_from_where_and_between_when() {
        let mut stored = StoredRecord {
            record: Some(AuditRecord {
                kind: RecordKind::Summary.into(),
                source_address: "10.0.0.7".into(),
                summary: Some(RecordSummary { count: 490, first_micros: 1_000_000, last_micros: 2_000_000 }),
                ..AuditRecord::default()
            }),
            ..StoredRecord::default()
        };
        let text = line(&stored);
        for part in ["summed", "490 MORE", "from 10.0.0.7", "1970-01-01T00:00:01", "1970-01-01T00:00:02"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        if let Some(record) = &mut stored.record {
            record.source_address.clear();
        }
        assert!(line(&stored).contains("several addresses"));
    }
}
