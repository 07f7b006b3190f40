//! SQLite's one writer: a task that takes whatever waits (up to a bound) and commits it in one `BEGIN IMMEDIATE`, each
//! piece in a savepoint of its own. One `fsync` then serves many requests.

use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, AnyPool, Connection};
use tokio::sync::{mpsc, oneshot};

use super::error::StorageError;

/// Statements that belong together, run on a connection that is inside a transaction.
pub(super) type Work<T> =
    Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, StorageError>> + Send>;

/// Tells the caller its result once the group is committed (`None`), or why the group was not.
type Reply = Box<dyn FnOnce(Option<StorageError>) + Send>;

/// A piece of work with its result's type erased: says whether to keep what it wrote, and how to answer.
type Piece = Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, (bool, Reply)> + Send>;

/// How many pieces share one commit.
const GROUP: usize = 64;

/// The handle to the writer task; the task ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Piece>);

impl Writer {
    /// Starts the task on a connection of its own.
    pub(super) fn start(pool: AnyPool) -> Self {
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(run(pool, receiver));
        Self(sender)
    }

    /// Runs `work` in the next group and answers when that is committed.
    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        let piece: Piece = Box::new(move |connection| {
            Box::pin(async move {
                let result = work(connection).await;
                let keep = result.is_ok();
                let reply: Reply = Box::new(move |failure| {
                    let _ = answer.send(failure.map_or(result, Err));
                });
                (keep, reply)
            })
        });
        let gone = || StorageError::Unavailable("the writer has ended".to_owned());
        self.0.send(piece).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn run(pool: AnyPool, mut waiting: mpsc::Receiver<Piece>) {
    while let Some(first) = waiting.recv().await {
        let mut replies = Vec::new();
        let failure = group(&pool, first, &mut waiting, &mut replies).await.err();
        for reply in replies {
            let failure = failure.as_ref().map(|e: &sqlx::Error| StorageError::Unavailable(e.to_string()));
            reply(failure);
        }
    }
}

/// Runs and commits one group. On failure nothing of it is kept; pieces that did not run answer by being dropped.
async fn group(
    pool: &AnyPool,
    first: Piece,
    waiting: &mut mpsc::Receiver<Piece>,
    replies: &mut Vec<Reply>,
) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut next = Some(first);
    while let Some(piece) = next {
        let mut savepoint = transaction.begin().await?;
        let (keep, reply) = piece(&mut savepoint).await;
        replies.push(reply);
        if keep {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
        next = if replies.len() < GROUP { waiting.try_recv().ok() } else { None };
    }
    transaction.commit().await
}
