//! The command line: parses, calls the API, prints.

mod args;
mod backup;
mod blobs;
mod bound;
mod chain;
mod changes;
mod client;
mod doctor;
mod forget;
mod identity;
mod inbox;
mod input;
mod log;
mod offchain;
mod output;
mod qr;
mod resolve;
mod secret;
mod transfer;
mod vault;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

pub use args::{Cli, Daemon as DaemonArgs, Global};

use args::{Command, Daemon, Peers};
use client::{ApiRequest, Client};
use output::Output;

use crate::app::AppConfig;
use crate::failure::Failure;
use crate::view;

/// Runs the program with the process's arguments and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_logging(&cli.global);
    let output = Output::new(cli.global.json, cli.global.quiet);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, &output)),
        Err(error) => Err(Failure::local(&error, "the system is out of threads or file handles")),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Prints what clap says; as JSON where that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && std::env::args().any(|arg| arg == "--json") {
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Output::new(true, false).failure(&Failure::usage(message, "see walytis --help"));
    } else if error.print().is_err() {
        return ExitCode::from(1);
    }
    ExitCode::from(if asked { 0 } else { 2 })
}

fn start_logging(global: &Global) {
    let default = match global.verbose {
        _ if global.quiet => "error",
        0 => "warn",
        1 => {
            "info,walytis_core=debug,walytis_identities=debug,walytis_offchain=debug,walytis_mutability=debug,walytis_ipfs=debug,walytis=debug"
        }
        _ => {
            "debug,walytis_core=trace,walytis_identities=trace,walytis_offchain=trace,walytis_mutability=trace,walytis_ipfs=trace,walytis=trace"
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("WALYTIS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only a second subscriber in one process can fail here.
    let _already_set = logging.try_init();
}

async fn run(cli: Cli, output: &Output) -> Result<u8, Failure> {
    let config = AppConfig::from_global(&cli.global)?;
    match cli.command {
        Command::Daemon(args) => crate::daemon::run(config, args, output.is_json()).await.map(|()| 0),
        Command::Doctor => doctor::run(config, output).await,
        Command::Init(args) => vault::init(config, &args, output).await.map(|()| 0),
        Command::Restore(args) => backup::restore(&config, &args, output).await.map(|()| 0),
        command => {
            let client = Client::connect(config).await?;
            let result = Box::pin(dispatch(command, &cli.global, &client, output)).await;
            client.close().await;
            result
        }
    }
}

async fn dispatch(command: Command, global: &Global, client: &Client, output: &Output) -> Result<u8, Failure> {
    match command {
        Command::Daemon(Daemon { .. }) | Command::Init(_) | Command::Doctor | Command::Restore(_) => Ok(0),
        Command::Lock => vault::lock(client, output).await.map(|()| 0),
        Command::Unlock(args) => vault::unlock(&args, global, client, output).await.map(|()| 0),
        Command::Passphrase(command) => vault::passphrase(command, global, client, output).await.map(|()| 0),
        Command::Backup(args) => backup::backup(args, client, output).await.map(|()| 0),
        Command::Status => {
            let status: view::Status = client.call(ApiRequest::get(&["status"])).await?;
            output.status(&status, client.is_embedded());
            Ok(0)
        }
        Command::Peers { command } => peers(command, client, output).await.map(|()| 0),
        Command::Chain(command) => chain::run(command, client, output).await,
        Command::Identity(command) => identity::run(command, client, output).await,
        Command::Offchain(command) => offchain::run(command, client, output).await.map(|()| 0),
    }
}

async fn peers(command: Option<Peers>, client: &Client, output: &Output) -> Result<(), Failure> {
    if let Some(Peers::Connect { address }) = command {
        let request = ApiRequest::post(&["peers", "connect"]).json(&view::Connect { address });
        let peer: view::Text = client.call(request).await?;
        output.value(&serde_json::json!({ "peer_id": peer.text }), || format!("connected to {}", peer.text));
        return Ok(());
    }
    let peers: Vec<view::Peer> = client.call(ApiRequest::get(&["peers"])).await?;
    for peer in peers {
        output.value(&peer, || {
            let rtt = peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms"));
            format!("{}  {}  {rtt}  {}", peer.peer_id, peer.direction, peer.addresses.join(" "))
        });
    }
    Ok(())
}
