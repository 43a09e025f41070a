//! `walytis daemon`: the node, its API, and their orderly beginning and end.

mod api_file;
mod lock;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use api_file::ApiFile;
pub(crate) use lock::create_private_dir;
pub use lock::{DataDirLock, LockError};

use crate::api::{self, Guard, Token};
use crate::app::{App, AppConfig};
use crate::cli::DaemonArgs;
use crate::failure::{Failure, Kind};

/// How long open requests may take to end when the daemon is told to stop. Chosen: below what service managers wait.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or ctrl-C.
///
/// # Errors
/// [`Failure`] if the node cannot be started or its API breaks.
pub async fn run(config: AppConfig, args: DaemonArgs, _json: bool) -> Result<(), Failure> {
    if !args.api.ip().is_loopback() {
        return Err(Failure::usage(
            format!("--api {} is not a loopback address", args.api),
            "the API controls this node; reach it from elsewhere through ssh",
        ));
    }
    let data_dir = config.data_dir.clone();
    let _lock = DataDirLock::take(&data_dir).map_err(LockError::into_failure)?;
    // Signals count from here on, so that a stop during the start is orderly too.
    let mut stop = StopSignal::new()?;
    let listener = bind(args.api).await?;
    let address = listener.local_addr().map_err(|error| Failure::local(&error, ""))?;
    let app = Arc::new(App::open(config.for_daemon(args)).await?);
    let served = serve(&app, listener, address, &data_dir, &mut stop).await;
    ApiFile::remove(&data_dir);
    app.shutdown().await;
    served
}

async fn serve(
    app: &Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    data_dir: &Path,
    stop: &mut StopSignal,
) -> Result<(), Failure> {
    let token = Token::generate(app.entropy());
    let file = ApiFile { url: format!("http://{address}"), token: token.text(), pid: std::process::id() };
    let router = api::router(Arc::clone(app), Guard::new(token, Some(address)));
    let (closing, mut closed) = watch::channel(false);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        // An error means that the sender is gone: also a reason to stop.
        let _stopped = closed.wait_for(|closing| *closing).await;
    });
    let mut server = AbortOnDropHandle::new(tokio::spawn(async move { server.await }));
    file.write(data_dir).map_err(|error| Failure::local(&error, "is the data folder writable?"))?;
    print_ready(app, address).await?;
    tokio::select! {
        biased;
        () = stop.wait() => {}
        ended = &mut server => {
            return Err(Failure::new(Kind::Failed, format!("the API ended: {ended:?}"), "start the daemon again"));
        }
    }
    tracing::info!("stopping");
    closing.send_replace(true);
    // Streams that never end by themselves are cut after a while.
    let _drained = tokio::time::timeout(DRAIN, &mut server).await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
            "another program listens there; choose another port with --api, or port 0 for a free one"
        } else {
            "choose another address with --api"
        };
        Failure::new(Kind::Failed, format!("the API cannot listen on {address}: {error}"), hint)
    })
}

/// Tells whoever started the daemon that it can be used, on one line of JSON.
async fn print_ready(app: &App, address: SocketAddr) -> Result<(), Failure> {
    let status = app.status().await?;
    let ready = serde_json::json!({
        "event": "ready",
        "peer_id": status.peer_id,
        "listen": status.listen,
        "api": format!("http://{address}"),
    });
    let mut out = std::io::stdout().lock();
    // Nobody reading is no reason to stop.
    let _closed = writeln!(out, "{ready}").and_then(|()| out.flush());
    Ok(())
}

/// SIGTERM and ctrl-C.
#[derive(Debug)]
struct StopSignal {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn new() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let failed = |error: std::io::Error| Failure::local(&error, "");
            Ok(Self {
                terminate: signal(SignalKind::terminate()).map_err(failed)?,
                interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn wait(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        let _interrupted = tokio::signal::ctrl_c().await;
    }
}
