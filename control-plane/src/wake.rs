//! What wakes the policy thread.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

/// What wakes the policy thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// What the source of policy would give may have changed.
    Source,
    /// A key set changed.
    Keys,
    /// The process ends.
    Stop,
}

/// By which a source of policy says that what it would give may have changed. Cheap: until the policy thread looks, further
/// calls do nothing.
#[derive(Debug, Clone)]
pub struct Waker {
    sender: mpsc::Sender<Trigger>,
    /// A trigger waits in the channel, so a further one need not.
    waits: Arc<AtomicBool>,
}

impl Waker {
    /// Wakes the thread that reads this channel.
    pub fn new(sender: mpsc::Sender<Trigger>) -> Self {
        Self { sender, waits: Arc::default() }
    }

    /// Something may have changed.
    pub fn wake(&self) {
        if !self.waits.swap(true, Ordering::Relaxed) {
            // The policy thread is gone only when the process ends.
            let _ = self.sender.send(Trigger::Source);
        }
    }

    /// The policy thread is about to look: what changes from now on wakes it again.
    pub fn arm(&self) {
        self.waits.store(false, Ordering::Relaxed);
    }
}
