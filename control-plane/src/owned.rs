//! Streams that own the tasks behind them.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::Status;

/// A stream of answers, and the tasks that make them. A task that ends by a defect drops its end of the stream, and what follows
/// would look like an orderly end: here it is an error.
#[derive(Debug)]
pub struct Owned<S> {
    stream: S,
    tasks: Vec<JoinHandle<()>>,
    /// The tasks end when the reader is gone, wherever they are.
    abort: bool,
}

impl<S> Owned<S> {
    /// The task ends when the reader is gone.
    pub fn new(stream: S, task: JoinHandle<()>) -> Self {
        Self { stream, tasks: vec![task], abort: true }
    }

    /// The tasks bring to an end what they have begun, also when the reader is gone.
    pub fn finishing(stream: S, tasks: Vec<JoinHandle<()>>) -> Self {
        Self { stream, tasks, abort: false }
    }
}

impl<S, T> Stream for Owned<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = pin!(&mut self.stream).poll_next(context);
        if !matches!(next, Poll::Ready(None)) {
            return next;
        }
        while let Some(task) = self.tasks.last_mut() {
            let Poll::Ready(ended) = Pin::new(task).poll(context) else { return Poll::Pending };
            self.tasks.pop();
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!("a stream ended by a defect; please report it");
                return Poll::Ready(Some(Err(Status::internal("a defect of the control plane ended this stream"))));
            }
        }
        Poll::Ready(None)
    }
}

impl<S> Drop for Owned<S> {
    fn drop(&mut self) {
        if self.abort {
            self.tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{sync::mpsc, time::timeout};
    use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

    use super::*;

    async fn read(owned: &mut Owned<ReceiverStream<Result<u8, Status>>>) -> Vec<Result<u8, tonic::Code>> {
        let all = owned.map(|item| item.map_err(|status| status.code())).collect::<Vec<_>>();
        timeout(Duration::from_secs(10), all).await.unwrap()
    }

    #[tokio::test]
    async fn a_task_that_ends_by_a_defect_ends_its_stream_with_an_error() {
        for panics in [false, true] {
            let (items, stream) = mpsc::channel(2);
            let stream = ReceiverStream::new(stream);
            let task = tokio::spawn(async move {
                items.send(Ok(1)).await.unwrap();
                assert!(!panics);
            });
            // One after it that has long ended well.
            let expected = if panics { vec![Ok(1), Err(tonic::Code::Internal)] } else { vec![Ok(1)] };
            let mut owned = Owned::finishing(stream, vec![task, tokio::spawn(async {})]);
            assert_eq!(read(&mut owned).await, expected);
            assert_eq!(read(&mut owned).await, [], "and then it is over");
        }
    }

    #[tokio::test]
    async fn a_task_ends_with_its_reader_unless_it_has_something_to_finish() {
        for finishes in [false, true] {
            let held = Arc::new(());
            let (go, wait) = tokio::sync::oneshot::channel::<()>();
            let (items, stream) = mpsc::channel::<Result<u8, Status>>(1);
            let inner = Arc::clone(&held);
            let task = tokio::spawn(async move {
                let _ = wait.await;
                drop((inner, items));
            });
            let stream = ReceiverStream::new(stream);
            let owned = if finishes { Owned::finishing(stream, vec![task]) } else { Owned::new(stream, task) };
            drop(owned);
            let gone = async {
                while Arc::strong_count(&held) > 1 {
                    tokio::task::yield_now().await;
                }
            };
            let ended = timeout(Duration::from_millis(if finishes { 100 } else { 10_000 }), gone).await;
            assert_eq!(ended.is_ok(), !finishes);
            drop(go);
        }
    }
}
