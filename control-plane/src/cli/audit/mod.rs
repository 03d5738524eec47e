//! `doorward audit`: tail and query of the audit log.

use std::{fmt, io::Write as _, process::ExitCode, str::FromStr, time::Duration};

use anyhow::bail;
use doorward_proto::v1::{
    AuditRecord, Filter, QueryRequest, RecordKind, RecordRequest, StoredRecord, TailEvent, TailRequest,
    audit_log_client::AuditLogClient, tail_event::Event,
};
use serde_json::{Map, Value, json};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::{
    connect::{Connection, block_on, refused},
    output::{BOLD, DIM, GREEN, RED, YELLOW, clean, hex, paint, time},
    serve,
};
use crate::clock;

/// Read the audit log.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the newest records, and with --follow those that come.
    Tail(TailArgs),
    /// Search the log.
    Query(QueryArgs),
}

/// Show the newest records, and with --follow those that come.
///
/// With --follow a lost connection is taken up again at the last record seen, so nothing is missed and nothing comes
/// twice. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit tail --follow --outcome deny\n  \
    doorward audit tail --last 20 --user john@example.com --since 5m\n  \
    doorward audit tail --follow --after 184467 --format jsonl | my-shipper\n\n\
    EXIT CODES:\n  0  done, also by Ctrl-C or where the reader closed the pipe\n  1  errors\n  2  the command line is wrong")]
struct TailArgs {
    /// Go on with records as they come.
    #[arg(short, long)]
    follow: bool,
    /// Start with the newest N [default: 10, none with --after].
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    /// Start after this record: `cursor` in JSON, or `position`, with which a log that was restored meanwhile is noticed.
    #[arg(long, value_name = "POSITION", conflicts_with = "last")]
    after: Option<Position>,
    #[command(flatten)]
    common: Common,
}

/// Search the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit query --code field_denied --since 24h\n  \
    doorward audit query --agent assistant --newest-first --limit 20\n  \
    doorward audit query --decision-id 0190a8c2-7e1f-7d63-9f5e-1f2a3b4c5d6e --format json\n\n\
    EXIT CODES:\n  0  done, also where nothing was found\n  1  errors\n  2  the command line is wrong")]
struct QueryArgs {
    /// Records at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Newest first.
    #[arg(long)]
    newest_first: bool,
    /// Only records after this one: `cursor` or `position` in JSON.
    #[arg(long, value_name = "POSITION")]
    after: Option<Position>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Form of the records.
    #[arg(long, value_enum, default_value_t = RecordFormat::Table)]
    format: RecordFormat,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RecordFormat {
    /// One line each, for people.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filter")]
struct FilterArgs {
    /// Records of this user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Records in which this agent acted.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Records in which this role decided.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Records of this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Records of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Records that touch this component.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// allow, rewrite or deny.
    #[arg(long, value_parser = ["allow", "rewrite", "deny"])]
    outcome: Option<String>,
    /// Denials with this code, e.g. field_denied.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Records since then: 5m, 24h, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Records until then, in the same form.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// The record of this decision.
    #[arg(long, value_name = "ID")]
    decision_id: Option<String>,
    /// Records of this emitter (NODE/WORKER/BOOT).
    #[arg(long, value_name = "NAME")]
    emitter: Option<String>,
}

/// A place in a log: `CURSOR`, or `LOG:CURSOR`, where LOG is the log's id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Position {
    log: String,
    cursor: u64,
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (log, cursor) = text.split_once(':').unwrap_or(("", text));
        let is_log = log.is_empty() != text.contains(':') && log.bytes().all(|byte| byte.is_ascii_hexdigit());
        match cursor.parse() {
            Ok(cursor) if is_log => Ok(Self { log: log.to_owned(), cursor }),
            _ => Err("write a record's `cursor` (a number), or its `position`, as JSON shows them".to_owned()),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.log.is_empty() { write!(f, "{}", self.cursor) } else { write!(f, "{}:{}", self.log, self.cursor) }
    }
}

/// A span before now, or a moment, in microseconds.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    let ago = serve::duration(text)
        .map_err(|_| "write a span such as 5m or 24h, or a moment such as 2026-01-31T12:00:00Z".to_owned())?;
    Ok(clock::now_micros().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)))
}

impl FilterArgs {
    fn wire(&self) -> Filter {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Filter {
            user: text(&self.user),
            agent: text(&self.agent),
            role: text(&self.role),
            tenant: text(&self.tenant),
            service: text(&self.service),
            component: text(&self.component),
            outcome: text(&self.outcome),
            code: text(&self.code),
            since_micros: self.since.unwrap_or(0),
            until_micros: self.until.unwrap_or(0),
            decision_id: text(&self.decision_id),
            emitter: text(&self.emitter),
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Tail(args) if args.follow && args.common.format == RecordFormat::Json => {
            bail!("a log that goes on is no JSON array; use --format jsonl with --follow")
        }
        Command::Tail(args) => {
            let mut printer = Printer::new(args.common.format);
            block_on(tail(&args, &mut printer))?;
            printer.end()?;
        }
        Command::Query(args) => {
            let mut printer = Printer::new(args.common.format);
            block_on(query(&args, &mut printer))?;
            printer.end()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn query(args: &QueryArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let after = args.after.clone().unwrap_or_default();
    let request = QueryRequest {
        filter: Some(args.common.filter.wire()),
        limit: args.limit,
        after_cursor: after.cursor,
        newest_first: args.newest_first,
        log: after.log,
    };
    let mut client = AuditLogClient::new(args.common.connection.connect().await?);
    let mut records = client.query(request).await.map_err(|status| refused(&status))?.into_inner();
    while let Some(stored) = records.next().await {
        printer.print(&stored.map_err(|status| refused(&status))?)?;
    }
    Ok(())
}

/// Whether trying again makes sense.
fn passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted)
}

async fn tail(args: &TailArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let mut position = args.after.clone().unwrap_or_default();
    let mut last = if args.after.is_some() { 0 } else { args.last.unwrap_or(10) };
    let mut reached = false;
    let mut wait = Duration::from_millis(250);
    loop {
        let channel = match args.common.connection.connect().await {
            Ok(channel) => channel,
            Err(error) if !reached => return Err(error),
            Err(_) => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
                continue;
            }
        };
        let request = TailRequest {
            filter: Some(args.common.filter.wire()),
            follow: args.follow,
            after_cursor: position.cursor,
            last,
            log: position.log.clone(),
        };
        let problem = match AuditLogClient::new(channel).tail(request).await {
            Err(status) => Some(status),
            Ok(events) => {
                reached = true;
                wait = Duration::from_millis(250);
                let mut events = events.into_inner();
                loop {
                    match events.next().await {
                        Some(Ok(event)) => {
                            if take(event, printer, &mut position)? {
                                // From here on the cursor says where to go on.
                                last = 0;
                            }
                        }
                        Some(Err(status)) => break Some(status),
                        None => break None,
                    }
                }
            }
        };
        match problem {
            None if !args.follow => return Ok(()),
            Some(status) if !args.follow || !reached || !passing(&status) => return Err(refused(&status)),
            _ => {
                eprintln!("connection lost; going on after {position}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Prints an event and moves the position; true if it is now known.
fn take(event: TailEvent, printer: &mut Printer, position: &mut Position) -> anyhow::Result<bool> {
    let (log, cursor) = match event.event {
        Some(Event::Record(stored)) => {
            printer.print(&stored)?;
            (stored.log, stored.cursor)
        }
        Some(Event::Heartbeat(beat)) => {
            // Notices a reader that went away while nothing comes.
            printer.flush()?;
            (beat.log, beat.cursor)
        }
        Some(Event::Notice(notice)) if notice.code != "caught_up" => {
            let missed = notice.missed;
            eprintln!(
                "{}: {} ({missed} records; doorward audit query --after {} shows them)",
                clean(&notice.code),
                clean(&notice.message),
                Position { log: notice.log, cursor: notice.resume_cursor }
            );
            (String::new(), 0)
        }
        Some(Event::Notice(notice)) => (notice.log, notice.resume_cursor),
        None => (String::new(), 0),
    };
    if cursor > position.cursor {
        *position = Position { log, cursor };
    }
    Ok(position.cursor > 0)
}

struct Printer {
    format: RecordFormat,
    count: u64,
}

impl Printer {
    fn new(format: RecordFormat) -> Self {
        Printer { format, count: 0 }
    }

    fn print(&mut self, stored: &StoredRecord) -> anyhow::Result<()> {
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
                let text = format!("{:#}", record(stored)).replace('\n', "\n  ");
                write!(out, "{}\n  {text}", if self.count == 1 { "[" } else { "," })?;
            }
            RecordFormat::Jsonl => writeln!(out, "{}", record(stored))?,
        }
        Ok(out.flush()?)
    }

    fn flush(&self) -> anyhow::Result<()> {
        Ok(std::io::stdout().flush()?)
    }

    fn end(&self) -> anyhow::Result<()> {
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

/// The operations of a record as JSON.
pub fn operations(record: &AuditRecord) -> Vec<Value> {
    let operations = record.operations.iter();
    operations
        .map(|operation| {
            json!({
                "component": operation.component, "verb": operation.verb, "visible": operation.visible,
                "masked": operation.masked, "rows": operation.rows, "maxRows": operation.max_rows,
                "check": operation.check,
            })
        })
        .collect()
}

fn request(request: &RecordRequest) -> Value {
    json!({
        "method": request.method, "authority": request.authority, "path": request.path,
        "sha256": hex(&request.sha256), "bodySha256": hex(&request.body_sha256),
    })
}

/// A record as JSON: hashes in hexadecimal, times in RFC 3339.
fn record(stored: &StoredRecord) -> Value {
    let record = stored.record.clone().unwrap_or_default();
    let kind = match record.kind() {
        RecordKind::Decision => "decision",
        RecordKind::Response => "response",
        RecordKind::Gap => "gap",
        RecordKind::Summary => "summary",
        RecordKind::Unspecified => "unknown",
    };
    let principal = record.principal.as_ref().map(|principal| {
        let attributes: Map<String, Value> =
            principal.attributes.iter().map(|attribute| (attribute.name.clone(), json!(attribute.values))).collect();
        json!({
            "user": principal.user, "provider": principal.provider, "groups": principal.groups,
            "tenant": principal.tenant, "attributes": attributes, "agents": principal.agents, "key": principal.key,
            "tokenId": principal.token_id, "tokenSha256": principal.token_sha256,
            "meshIdentity": principal.mesh_identity,
        })
    });
    let decision = record.decision.as_ref().map(|decision| {
        json!({
            "outcome": decision.outcome, "code": decision.code, "status": decision.status, "detail": decision.detail,
            "would": decision.would, "wouldCode": decision.would_code, "durationNanos": decision.duration_nanos,
        })
    });
    let response = record.response.as_ref().map(|response| {
        json!({
            "decisionId": response.decision_id, "status": response.status, "durationMicros": response.duration_micros,
            "bytes": response.bytes, "records": response.records, "code": response.code,
        })
    });
    let summary = record.summary.as_ref().map(|summary| {
        json!({ "count": summary.count, "first": time(summary.first_micros), "last": time(summary.last_micros) })
    });
    let position = Position { log: stored.log.clone(), cursor: stored.cursor };
    json!({
        "cursor": stored.cursor, "position": position.to_string(), "kind": kind, "decisionId": record.decision_id, "time": time(record.time_micros),
        "received": time(stored.received_micros), "emitter": record.emitter, "sequence": record.sequence,
        "hash": hex(&stored.hash), "previousHash": hex(&record.previous_hash), "principal": principal,
        "role": record.role, "department": record.department, "service": record.service, "dialect": record.dialect,
        "operations": operations(&record), "asked": record.asked.as_ref().map(request),
        "sent": record.sent.as_ref().map(request), "decision": decision,
        "bundleDigest": hex(&record.bundle_digest), "bundleEpoch": record.bundle_epoch, "response": response,
        "traceId": record.trace_id, "gap": record.gap, "gapReason": record.gap_reason,
        "lostEmitter": record.lost_emitter, "lostSequence": record.lost_sequence, "model": record.model,
        "classification": record.classification, "erased": record.erased, "policyStale": record.policy_stale,
        "sourceAddress": record.source_address, "summary": summary, "cut": record.cut,
    })
}

#[cfg(test)]
mod tests {
    use doorward_proto::v1::RecordSummary;

    use super::*;

    #[test]
    fn a_position_is_a_cursor_with_or_without_its_log() {
        let position = |log: &str, cursor| Ok(Position { log: log.into(), cursor });
        assert_eq!("184467".parse(), position("", 184_467));
        assert_eq!("00ab:7".parse(), position("00ab", 7));
        for wrong in ["", ":7", "xyz:7", "00ab:", "-1", "00ab:7:8", "00ab"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
        for text in ["184467", "00ab:7"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
    }

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
        assert_eq!(record(&stored)["summary"]["count"], 490);
        if let Some(record) = &mut stored.record {
            record.source_address.clear();
        }
        assert!(line(&stored).contains("several addresses"));
    }

    #[test]
    fn since_is_a_span_or_a_moment() {
        assert_eq!(moment("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000_000));
        let before = clock::now_micros();
        let ago = moment("5m").unwrap();
        assert!((before..=clock::now_micros()).contains(&(ago + 300_000_000)), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
