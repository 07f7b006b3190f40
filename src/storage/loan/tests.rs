use sqlx::any::AnyPoolOptions;

use super::*;

async fn connections(most: u32) -> Connections {
    sqlx::any::install_default_drivers();
    let options = AnyPoolOptions::new().max_connections(most).min_connections(1);
    Connections::new(options.connect("sqlite::memory:").await.unwrap())
}

async fn select(loan: &mut Loan) {
    let answer = in_time(sqlx::query("SELECT 1").fetch_all(&mut **loan)).await;
    loan.ended(answer).unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_connection_whose_work_ended_well_rests_and_is_lent_again() {
    let connections = connections(2).await;
    for _ in 0..3 {
        select(&mut connections.take().await.unwrap()).await;
        // At once: without any task that asks it for a sign of life.
        assert_eq!(connections.resting.lock().len(), 1);
        assert_eq!(connections.pool.num_idle(), 0);
        assert_eq!(connections.count(), (1, 1));
    }
}

#[tokio::test]
async fn a_connection_on_which_something_may_be_under_way_goes_back_by_the_pool() {
    let connections = connections(1).await;
    // Used again after good work, failed, never used, and given up halfway through a transaction.
    let mut loan = connections.take().await.unwrap();
    select(&mut loan).await;
    let refused = in_time(sqlx::query("SELECT none").fetch_all(&mut *loan)).await;
    assert!(loan.ended(refused).is_err());
    drop(loan);
    assert!(connections.resting.lock().is_empty());
    until(|| connections.pool.num_idle() == 1).await;
    drop(connections.take().await.unwrap());
    assert!(connections.resting.lock().is_empty());

    let mut loan = connections.take().await.unwrap();
    select(&mut loan).await;
    let mut transaction = loan.begin().await.unwrap();
    sqlx::query("CREATE TABLE given_up (id INTEGER)").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    drop(loan);
    assert!(connections.resting.lock().is_empty());
    let mut loan = connections.take().await.unwrap();
    let made = sqlx::query("SELECT 1 FROM sqlite_master").fetch_all(&mut *loan).await.unwrap();
    assert!(made.is_empty(), "the transaction was rolled back");
}

#[tokio::test]
async fn who_waits_gets_the_next_connection_that_comes_to_rest() {
    let connections = connections(2).await;
    let many = (0..40).map(|turn| {
        let connections = connections.clone();
        tokio::spawn(async move {
            let mut loan = connections.take().await.unwrap();
            tokio::task::yield_now().await;
            // A quarter goes the long way.
            if turn % 4 > 0 {
                select(&mut loan).await;
            }
        })
    });
    for one in many.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    until(|| connections.places.available_permits() == 2).await;
    let (open, idle) = connections.count();
    assert!(open <= 2 && idle == open as usize, "{open} {idle}");
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_connection() {
    let connections = connections(1).await;
    let _out = connections.take().await.unwrap();
    assert!(matches!(connections.take().await, Err(StorageError::Unavailable(_))));
}

#[test]
fn connections_at_rest_may_outlive_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kept = runtime.block_on(async {
        let connections = connections(1).await;
        select(&mut connections.take().await.unwrap()).await;
        connections
    });
    drop(runtime);
    drop(kept);
}
