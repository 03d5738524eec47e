//! `doorward audit tail` and `query`.

use doorward_proto::v1::{QueryRequest, TailEvent, TailRequest, audit_log_client::AuditLogClient, tail_event::Event};
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    super::{connect::refused, output::clean},
    args::{QueryArgs, TailArgs},
    follow::{Reading, read},
    render::Printer,
};
use crate::audit::position::Position;

/// Prints what was asked for.
pub(super) async fn query(args: &QueryArgs, printer: &mut Printer) -> anyhow::Result<()> {
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

/// Prints the newest records, and those that come.
pub(super) async fn tail(args: &TailArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let last = if args.after.is_some() { 0 } else { args.last.unwrap_or(10) };
    let position = args.after.clone().unwrap_or_default();
    read(&args.common.connection, args.follow, &mut Tail { args, printer, position, last }).await
}

struct Tail<'a> {
    args: &'a TailArgs,
    printer: &'a mut Printer,
    position: Position,
    /// 0, once the position says where to go on.
    last: u32,
}

impl Reading for Tail<'_> {
    fn request(&self) -> TailRequest {
        TailRequest {
            filter: Some(self.args.common.filter.wire()),
            follow: self.args.follow,
            after_cursor: self.position.cursor,
            last: self.last,
            log: self.position.log.clone(),
            cursor_name: String::new(),
        }
    }

    fn position(&self) -> &Position {
        &self.position
    }

    async fn take(&mut self, _: Channel, mut events: Streaming<TailEvent>) -> anyhow::Result<Option<Status>> {
        loop {
            match events.next().await {
                Some(Ok(event)) => self.event(event)?,
                Some(Err(status)) => return Ok(Some(status)),
                None => return Ok(None),
            }
        }
    }
}

impl Tail<'_> {
    /// Prints an event and moves the position.
    fn event(&mut self, event: TailEvent) -> anyhow::Result<()> {
        let next = match event.event {
            Some(Event::Record(stored)) => {
                self.printer.print(&stored)?;
                Position::of(&stored)
            }
            Some(Event::Heartbeat(beat)) => {
                // Notices a reader that went away while nothing comes.
                self.printer.flush()?;
                Position { log: beat.log, cursor: beat.cursor }
            }
            Some(Event::Notice(notice)) if notice.code != "caught_up" => {
                let missed = notice.missed;
                eprintln!(
                    "{}: {} ({missed} records; doorward audit query --after {} shows them)",
                    clean(&notice.code),
                    clean(&notice.message),
                    Position { log: notice.log, cursor: notice.resume_cursor }
                );
                Position::default()
            }
            Some(Event::Notice(notice)) => Position { log: notice.log, cursor: notice.resume_cursor },
            None => Position::default(),
        };
        if next.cursor > self.position.cursor {
            self.position = next;
        }
        if self.position.cursor > 0 {
            self.last = 0;
        }
        Ok(())
    }
}
