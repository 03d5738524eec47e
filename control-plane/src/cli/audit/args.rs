//! What `doorward audit tail` and `query` are told.

use doorward_proto::v1::Filter;

use super::super::{connect::Connection, values};
use crate::{audit::position::Position, clock};

/// Show the newest records, and with --follow those that come.
///
/// With --follow a lost connection is taken up again at the last record seen, so nothing is missed and nothing comes
/// twice. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit tail --follow --outcome deny\n  \
    doorward audit tail --last 20 --user john@example.com --since 5m\n  \
    doorward audit tail --follow --after 184467 --format jsonl | my-shipper\n\n\
    EXIT CODES:\n  0  done, also by Ctrl-C or where the reader closed the pipe\n  1  errors\n  2  the command line is wrong")]
pub(super) struct TailArgs {
    /// Go on with records as they come.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Start with the newest N [default: 10, none with --after].
    #[arg(long, value_name = "N")]
    pub(super) last: Option<u32>,
    /// Start after this record: `cursor` in JSON, or `position`, with which a log that was restored meanwhile is noticed.
    #[arg(long, value_name = "POSITION", conflicts_with = "last")]
    pub(super) after: Option<Position>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Search the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit query --code field_denied --since 24h\n  \
    doorward audit query --agent assistant --newest-first --limit 20\n  \
    doorward audit query --decision-id 0190a8c2-7e1f-7d63-9f5e-1f2a3b4c5d6e --format json\n\n\
    EXIT CODES:\n  0  done, also where nothing was found\n  1  errors\n  2  the command line is wrong")]
pub(super) struct QueryArgs {
    /// Records at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) limit: u32,
    /// Newest first.
    #[arg(long)]
    pub(super) newest_first: bool,
    /// Only records after this one: `cursor` or `position` in JSON.
    #[arg(long, value_name = "POSITION")]
    pub(super) after: Option<Position>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Form of the records.
    #[arg(long, value_enum, default_value_t = RecordFormat::Table)]
    pub(super) format: RecordFormat,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum RecordFormat {
    /// One line each, for people.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filter")]
pub(super) struct FilterArgs {
    /// Records of this user.
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Records in which this agent acted.
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// Records in which this role decided.
    #[arg(long, value_name = "NAME")]
    pub(super) role: Option<String>,
    /// Records of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
    /// Records of this service.
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Records that touch this component.
    #[arg(long, value_name = "NAME")]
    pub(super) component: Option<String>,
    /// allow, rewrite or deny.
    #[arg(long, value_parser = ["allow", "rewrite", "deny"])]
    pub(super) outcome: Option<String>,
    /// Denials with this code, e.g. field_denied.
    #[arg(long, value_name = "CODE")]
    pub(super) code: Option<String>,
    /// Records since then: 5m, 24h, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<i64>,
    /// Records until then, in the same form.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) until: Option<i64>,
    /// The record of this decision.
    #[arg(long, value_name = "ID")]
    pub(super) decision_id: Option<String>,
    /// Records of this emitter (NODE/WORKER/BOOT).
    #[arg(long, value_name = "NAME")]
    pub(super) emitter: Option<String>,
}

/// Text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a span such as 5m or 24h, or a moment such as 2026-01-31T12:00:00Z")]
pub(super) struct NoMoment;

/// A span before now, or a moment, in microseconds.
fn moment(text: &str) -> Result<i64, NoMoment> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    let ago = values::duration(text).map_err(|_| NoMoment)?;
    Ok(clock::now_micros().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)))
}

impl FilterArgs {
    /// As the protocol says it.
    pub(super) fn wire(&self) -> Filter {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_moment() {
        assert_eq!(moment("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000_000));
        let before = clock::now_micros();
        let ago = moment("5m").unwrap();
        assert!((before..=clock::now_micros()).contains(&(ago + 300_000_000)), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
