//! `doorward audit cursors`: the named cursors of exporters.

use std::{io::Write as _, str::FromStr};

use comfy_table::{Table, presets};
use doorward_proto::v1::{
    AuditCursor, CreateCursorRequest, ListCursorsRequest, RemoveCursorRequest, audit_log_client::AuditLogClient,
};
use serde_json::{Value, json};

use super::super::{
    connect::{Connection, refused},
    output::{Format, RED, clean, paint, span, time},
};
use crate::{
    audit::{
        cursors::CursorName,
        position::{NoPosition, Position},
    },
    clock::now_micros,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the cursors: how far each has got, and what it has not passed.
    List(ListArgs),
    /// Make a cursor, for `doorward audit export`.
    Create(CreateArgs),
    /// Remove a cursor, so that retention keeps nothing for it any more.
    Remove(RemoveArgs),
}

/// List the cursors: how far each has got, and what it has not passed.
///
/// LAG is the number of records that the cursor has not passed, and WAITING the age of the oldest of them. LOST counts records
/// that retention deleted before the cursor had passed them, in all.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit cursors list\n  \
    doorward audit cursors list --format json | jq '.[] | select(.lost > 0) | .name'\n\n\
    EXIT CODES:\n  0  listed\n  1  errors\n  2  the command line is wrong")]
pub(super) struct ListArgs {
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Make a cursor, for `doorward audit export`. Needs the role `admin`.
///
/// From then on `doorward serve` keeps what the cursor has not passed longer than --audit-retention says, by up to
/// --audit-cursor-hold. Remove a cursor that nobody uses any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit cursors create siem\n  \
    doorward audit cursors create siem --from newest\n\n\
    EXIT CODES:\n  0  made\n  1  errors, also where there is one of this name\n  2  the command line is wrong")]
pub(super) struct CreateArgs {
    /// Its name: small letters, digits and hyphens.
    name: CursorName,
    /// Where it begins: `oldest` record that is there, `newest` (only what comes), or after a `position`, as JSON shows it.
    #[arg(long, value_name = "PLACE", default_value = "oldest")]
    from: From,
    #[command(flatten)]
    connection: Connection,
}

/// Remove a cursor, so that retention keeps nothing for it any more. Needs the role `admin`.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit cursors remove siem\n\n\
    EXIT CODES:\n  0  removed\n  1  errors, also where there is none of this name\n  2  the command line is wrong")]
pub(super) struct RemoveArgs {
    /// Its name.
    name: CursorName,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Oldest,
    Newest,
    After(Position),
}

impl FromStr for From {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            position => position.parse().map(Self::After),
        }
    }
}

/// Runs the command.
pub(super) async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List(args) => list(args).await,
        Command::Create(args) => create(args).await,
        Command::Remove(args) => remove(args).await,
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let mut client = AuditLogClient::new(args.connection.connect().await?);
    let answer = client.list_cursors(ListCursorsRequest::default()).await.map_err(|status| refused(&status))?;
    let cursors = answer.into_inner().cursors;
    let mut out = std::io::stdout().lock();
    if args.format == Format::Json {
        let cursors: Vec<Value> = cursors.iter().map(as_json).collect();
        writeln!(out, "{:#}", Value::from(cursors))?;
        return Ok(());
    }
    if cursors.is_empty() {
        writeln!(out, "There is no cursor. Make one with doorward audit cursors create NAME.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["NAME", "POSITION", "MOVED", "LAG", "WAITING", "LOST"]);
    for cursor in &cursors {
        table.add_row(row(cursor));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

async fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let after = if let From::After(position) = &args.from { position.clone() } else { Position::default() };
    let request = CreateCursorRequest {
        name: args.name.to_string(),
        newest: args.from == From::Newest,
        after_cursor: after.cursor,
        log: after.log,
    };
    let mut client = AuditLogClient::new(args.connection.connect().await?);
    let cursor = client.create_cursor(request).await.map_err(|status| refused(&status))?.into_inner();
    writeln!(std::io::stdout(), "{} begins after record {}", clean(&cursor.name), cursor.cursor)?;
    Ok(())
}

async fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let mut client = AuditLogClient::new(args.connection.connect().await?);
    let request = RemoveCursorRequest { name: args.name.to_string() };
    let cursor = client.remove_cursor(request).await.map_err(|status| refused(&status))?.into_inner();
    writeln!(std::io::stdout(), "{} is removed; it stood after {}", clean(&cursor.name), position(&cursor))?;
    Ok(())
}

fn position(cursor: &AuditCursor) -> Position {
    Position { log: cursor.log.clone(), cursor: cursor.cursor }
}

fn row(cursor: &AuditCursor) -> [String; 6] {
    let waiting = match cursor.oldest_micros {
        0 => "-".to_owned(),
        oldest => span(u64::try_from(now_micros().saturating_sub(oldest)).unwrap_or(0)),
    };
    let lost = match cursor.lost {
        0 => "0".to_owned(),
        lost => paint(RED, &format!("{lost} (newest: {} to {})", cursor.lost_first, cursor.lost_last)),
    };
    let at = position(cursor).to_string();
    [clean(&cursor.name), at, time(cursor.updated_micros), cursor.lag.to_string(), waiting, lost]
}

fn as_json(cursor: &AuditCursor) -> Value {
    json!({
        "name": cursor.name, "cursor": cursor.cursor, "position": position(cursor).to_string(),
        "created": time(cursor.created_micros), "updated": time(cursor.updated_micros), "lag": cursor.lag,
        "oldest": time(cursor.oldest_micros), "lost": cursor.lost, "lostFirst": cursor.lost_first,
        "lostLast": cursor.lost_last,
    })
}
