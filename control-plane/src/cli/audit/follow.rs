//! A tail that is taken up again where the connection was lost.

use std::time::Duration;

use doorward_proto::v1::{TailEvent, TailRequest, audit_log_client::AuditLogClient};
use tonic::{Code, Status, Streaming, transport::Channel};

use super::super::connect::{Connection, refused};
use crate::audit::position::Position;

/// Before the first attempt to connect again; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What reads a tail.
pub(super) trait Reading {
    /// What to ask next, from where it is now.
    fn request(&self) -> TailRequest;

    /// Up to where it has read.
    fn position(&self) -> &Position;

    /// Reads until the stream ends, which came over this channel. Some: why, where the server said so.
    async fn take(&mut self, channel: Channel, events: Streaming<TailEvent>) -> anyhow::Result<Option<Status>>;
}

/// Whether trying again makes sense.
pub(super) fn passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted)
}

/// Reads a tail to its end. With `follow` there is none: a lost connection is taken up again, once there was one.
pub(super) async fn read(connection: &Connection, follow: bool, reading: &mut impl Reading) -> anyhow::Result<()> {
    let mut reached = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let channel = match connection.connect().await {
            Ok(channel) => channel,
            Err(error) if !reached => return Err(error),
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        let problem = match AuditLogClient::new(channel.clone()).tail(reading.request()).await {
            Err(status) => Some(status),
            Ok(events) => {
                reached = true;
                pause = FIRST_PAUSE;
                reading.take(channel, events.into_inner()).await?
            }
        };
        match problem {
            None if !follow => return Ok(()),
            Some(status) if !follow || !reached || !passing(&status) => return Err(refused(&status)),
            _ => {
                eprintln!("connection lost; going on after {}", reading.position());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
