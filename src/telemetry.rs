//! Logs on stderr, metrics for the operator's endpoint, and panics that end up in the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Why telemetry cannot start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("the log filter {0:?} cannot be understood: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// The log has been started in this process before.
    #[error("the log cannot be started: {0}")]
    Log(#[from] tracing_subscriber::util::TryInitError),
    /// Metrics have been started in this process before, or a setting of theirs is wrong.
    #[error("metrics cannot be started: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// What others write into the log unless the operator's filter says otherwise. rustls warns of every handshake whose
/// server name is an IP address, and hyper of every kept connection that ends: strangers could fill the log.
const QUIET: &str = "rustls=error,hyper=error,hyper_util=error,h2=error,sqlx=warn,hickory_net=error,\
                     hickory_proto=error,hickory_resolver=error,redis=warn,tower=warn,tower_http=warn";

/// Starts the log on stderr, for the whole process. `level` is a level or a filter (`info,chancery::validation=debug`).
pub fn start_log(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let colours = !json && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(json, colours, level, std::io::stderr)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    json: bool,
    colours: bool,
    level: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + 'static, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Of two directives for one target the later counts, so the operator's come last.
    let filter: Targets = format!("{QUIET},{level}")
        .parse()
        .map_err(|error| TelemetryError::Filter(level.to_owned(), error))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let layer = match json {
        true => layer.json().flatten_event(true).with_span_list(false).boxed(),
        false => layer.boxed(),
    };
    Ok(tracing_subscriber::registry().with(filter).with(layer))
}

/// From now on a panic is an event of the log, with its place, and its backtrace where `RUST_BACKTRACE` asks for it.
pub fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(place, %backtrace, "panic: {message}"),
        _ => tracing::error!(place, "panic: {message}"),
    }
}

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

/// Upper bounds of histogram buckets in seconds: from a read of the directory to a slow validation.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Starts to record what the `metrics` macros report, for the whole process. Histograms are of seconds.
pub fn start_metrics() -> Result<Metrics, TelemetryError> {
    Ok(Metrics(PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?))
}

impl Metrics {
    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the recorder's memory bounded between two reads; runs until `shutdown`.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_secs(5))).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(json: bool, level: &str, act: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(json, false, level, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn strangers_cannot_fill_the_log_unless_the_filter_says_so() {
        let noise = || {
            tracing::warn!(target: "rustls::server::hs", "an address as server name");
            tracing::warn!(target: "hyper::proto", "idle");
            tracing::info!(target: "chancery", "ours");
        };
        let quiet = written(false, "info", noise);
        assert!(quiet.contains("ours") && !quiet.contains("address") && !quiet.contains("idle"), "{quiet}");
        let loud = written(false, "info,rustls=warn", noise);
        assert!(loud.contains("address") && !loud.contains("idle"), "{loud}");
        assert!(subscriber(false, false, "info,=x=y", std::io::sink).is_err());
    }

    #[test]
    fn a_json_event_is_one_object_a_line() {
        let text = written(true, "info", || tracing::info!(order = "abc", "two\nlines"));
        let lines: Vec<&str> = text.lines().collect();
        let [line] = lines.as_slice() else { panic!("not one line: {text}") };
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["message"], "two\nlines");
        assert_eq!(event["order"], "abc");
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn a_panic_is_logged_with_its_place() {
        let text = written(true, "info", || {
            let before = std::panic::take_hook();
            log_panics();
            let caught = std::panic::catch_unwind(|| panic!("the reason"));
            std::panic::set_hook(before);
            assert!(caught.is_err());
        });
        let event: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(event["message"], "panic: the reason");
        assert!(event["place"].as_str().unwrap().contains("telemetry.rs"), "{text}");
    }

    #[test]
    fn histograms_are_buckets_of_seconds() {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap().build_recorder();
        let metrics = Metrics(recorder.handle());
        metrics::with_local_recorder(&recorder, || metrics::histogram!("request_seconds").record(0.003));
        let text = metrics.render();
        assert!(text.contains("request_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("request_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
