//! `doorward audit export`: records from a named cursor on, delivered at least once.

use std::time::{Duration, Instant};

use doorward_proto::v1::{
    AdvanceCursorRequest, StoredRecord, TailEvent, TailRequest, audit_log_client::AuditLogClient, tail_event::Event,
};
use prost::Message as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    super::{
        connect::{Connection, refused},
        output::clean,
    },
    args::FilterArgs,
    follow::{Reading, passing, read},
};
use crate::{
    audit::{
        cursors::CursorName,
        export::{Exporter, Target, gap},
        position::Position,
    },
    clock::now_micros,
};

/// Records that are delivered at once, their bytes, and how long the first of them waits at most.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Where nothing comes for so long, what waits is delivered.
const PAUSE: Duration = Duration::from_millis(50);
/// After a signal, what waits is delivered within this time or comes again with the next export.
const FINISH: Duration = Duration::from_secs(5);

/// Deliver records elsewhere, each at least once, from where a named cursor stands.
///
/// The cursor is kept by the control plane. It moves only after the records are written (to a file: after they are on the disk).
/// If the export is killed in between, the next one writes the same records again: drop duplicates by `position` or by `hash`.
/// None is left out: retention keeps what the cursor has not passed, up to a bound (`doorward serve --audit-cursor-hold`).
/// What is deleted beyond that comes as one line of kind `gap` with gapReason `cursor_expired`, which says how many records
/// are missing.
///
/// Make the cursor first, once: doorward audit cursors create NAME. One export at a time may use it. With --follow a lost
/// connection is taken up again. Ctrl-C and SIGTERM write what has come, move the cursor, and end.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward audit cursors create siem\n  \
    doorward audit export --cursor siem --follow | my-shipper\n  \
    doorward audit export --cursor archive --to file:/var/log/doorward/audit.jsonl\n  \
    doorward audit export --cursor denials --outcome deny --follow --to file:denials.jsonl\n\n\
    TARGETS:\n  \
    stdout     one JSON object a line; what was written into a pipe counts as delivered\n  \
    file:PATH  the same, at the end of a file; a line that was cut off is taken away first, its record comes again\n\n\
    EXIT CODES:\n  0  done, also by Ctrl-C or SIGTERM, or where the reader closed the pipe\n  1  errors\n  \
    2  the command line is wrong")]
pub(super) struct ExportArgs {
    /// The cursor: where to begin, and what to move.
    #[arg(long, value_name = "NAME")]
    cursor: CursorName,
    /// Where to.
    #[arg(long, value_name = "TARGET", default_value = "stdout")]
    to: Target,
    /// Go on with records as they come.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Exports until there is nothing more, or until a signal.
pub(super) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut export = Export {
        args,
        exporter: args.to.open()?,
        channel: None,
        waiting: Vec::new(),
        bytes: 0,
        first: Instant::now(),
        position: Position::default(),
        committed: 0,
    };
    tokio::select! {
        result = read(&args.connection, args.follow, &mut export) => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    match timeout(FINISH, export.settle()).await {
        Ok(Ok(Some(status))) => Err(refused(&status)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Ok(()),
    }
}

struct Export<'a> {
    args: &'a ExportArgs,
    exporter: Box<dyn Exporter>,
    channel: Option<Channel>,
    /// What is not delivered yet, how much that is, and when the first of it came.
    waiting: Vec<StoredRecord>,
    bytes: usize,
    first: Instant,
    /// Up to where the log was read; 0: nothing came yet, and the cursor says where to begin.
    position: Position,
    /// Up to where the cursor was moved.
    committed: u64,
}

impl Reading for Export<'_> {
    fn request(&self) -> TailRequest {
        TailRequest {
            filter: Some(self.args.filter.wire()),
            follow: self.args.follow,
            after_cursor: self.position.cursor,
            last: 0,
            // Where the log was restored meanwhile, the control plane refuses to go on.
            log: self.position.log.clone(),
            cursor_name: self.args.cursor.to_string(),
        }
    }

    fn position(&self) -> &Position {
        &self.position
    }

    async fn take(&mut self, channel: Channel, mut events: Streaming<TailEvent>) -> anyhow::Result<Option<Status>> {
        self.channel = Some(channel);
        loop {
            let event = if self.waiting.is_empty() {
                Some(events.next().await)
            } else {
                timeout(PAUSE, events.next()).await.ok()
            };
            let ended = match event {
                Some(Some(Ok(event))) => {
                    self.event(event);
                    let is_full = self.waiting.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES;
                    if !is_full && self.first.elapsed() < BATCH_TIME {
                        continue;
                    }
                    None
                }
                Some(Some(Err(status))) => Some(Some(status)),
                Some(None) => Some(None),
                // Nothing comes for a moment.
                None => None,
            };
            let failed = self.settle().await?;
            match (ended, failed) {
                (Some(ended), None) => return Ok(ended),
                (_, Some(failed)) => return Ok(Some(failed)),
                (None, None) => {}
            }
        }
    }
}

impl Export<'_> {
    fn event(&mut self, event: TailEvent) {
        let next = match event.event {
            Some(Event::Record(stored)) => {
                let next = Position::of(&stored);
                self.push(stored);
                next
            }
            Some(Event::Heartbeat(beat)) => Position { log: beat.log, cursor: beat.cursor },
            Some(Event::Notice(notice)) => {
                if notice.missed > 0 {
                    let (code, message) = (clean(&notice.code), clean(&notice.message));
                    eprintln!("{code}: {message} {} records are lost to this export", notice.missed);
                    self.push(gap(&notice, now_micros()));
                }
                Position { log: notice.log, cursor: notice.resume_cursor }
            }
            None => Position::default(),
        };
        if next.cursor > self.position.cursor {
            self.position = next;
        }
    }

    fn push(&mut self, stored: StoredRecord) {
        if self.waiting.is_empty() {
            self.first = Instant::now();
        }
        self.bytes = self.bytes.saturating_add(stored.encoded_len());
        self.waiting.push(stored);
    }

    /// Delivers what waits, and then moves the cursor. Some: the control plane cannot be asked just now, and the cursor moves
    /// another time.
    async fn settle(&mut self) -> anyhow::Result<Option<Status>> {
        if !self.waiting.is_empty() {
            self.exporter.deliver(&self.waiting).await?;
            self.waiting.clear();
            self.bytes = 0;
        }
        self.first = Instant::now();
        let Some(channel) = self.channel.clone().filter(|_| self.position.cursor > self.committed) else {
            return Ok(None);
        };
        let request = AdvanceCursorRequest {
            name: self.args.cursor.to_string(),
            cursor: self.position.cursor,
            log: self.position.log.clone(),
        };
        match AuditLogClient::new(channel).advance_cursor(request).await {
            Ok(_) => {
                self.committed = self.position.cursor;
                Ok(None)
            }
            Err(status) if passing(&status) => Ok(Some(status)),
            Err(status) => Err(refused(&status)),
        }
    }
}
