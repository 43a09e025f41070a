//! `walytis doctor`.

use super::client::{ApiRequest, Client};
use super::output::Output;
use crate::app::{AppConfig, doctor};
use crate::daemon::{DataDirLock, LockError};
use crate::failure::Failure;
use crate::view;

/// Looks at the data folder, through its daemon if one runs; exit code 1 if anything is wrong.
pub(super) async fn run(config: AppConfig, output: &Output) -> Result<u8, Failure> {
    let data_dir = &config.data_dir;
    if !data_dir.is_dir() {
        let message = format!("there is no data folder {}", data_dir.display());
        return Err(Failure::not_found(message, "start a node there first, or name another with --data-dir"));
    }
    let mut checks = doctor::folder(data_dir);
    if let Some(client) = Client::daemon(data_dir).await {
        checks.push(doctor::good("daemon", "it runs"));
        let found: Vec<view::Check> = client.call(ApiRequest::get(&["doctor"])).await?;
        checks.extend(found);
    } else {
        match DataDirLock::take(data_dir) {
            Ok(_lock) => {
                checks.push(doctor::good("daemon", "none runs"));
                checks.extend(doctor::closed_store(data_dir).await);
            }
            Err(error @ LockError::Held { .. }) => checks.push(doctor::failed("daemon", error.into_failure())),
            Err(error) => return Err(error.into_failure()),
        }
    }
    let healthy = checks.iter().all(|check| check.ok);
    let shown = view::Doctor { healthy, checks };
    output.value(&shown, || {
        let line = |check: &view::Check| {
            let (mark, hint) = match (check.ok, check.hint.as_str()) {
                (true, _) => ("ok  ", String::new()),
                (false, "") => ("BAD ", String::new()),
                (false, hint) => ("BAD ", format!("\n     {hint}")),
            };
            format!("{mark} {}: {}{hint}", check.what, check.message)
        };
        shown.checks.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(u8::from(!healthy))
}
