//! The command line.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use walytis_core::clock::Entropy;
use walytis_core::id::{Address, BlockId};
use walytis_identities::id::Did;

use super::haul::Findings;
use super::probe::{Keys, Probe, Target};
use super::{forge_token, scan};

const USAGE: &str = "usage: outsider forge-token TOKEN
       outsider probe ADDRESS DID ID…     ids of blocks, or 64 hexadecimal digits
       outsider scan PIECE_FILE DIR…";
/// The layer that every identity has.
const MAIN_LAYER: &str = "main";

/// Runs the program `outsider` with these arguments and returns its exit code: 0; 1 if a piece was found or nobody was
/// reached; 2 if it was called wrongly or could do nothing.
pub fn run(arguments: &[String], out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["forge-token", token] => {
            forge_token(token, &SystemEntropy).map(|text| (0, vec![text])).map_err(|e| causes(&e))
        }
        ["probe", address, did, ids @ ..] => probe(address, did, ids),
        ["scan", piece, folder, folders @ ..] => {
            let folders: Vec<_> = [folder].into_iter().chain(folders).map(PathBuf::from).collect();
            search(&PathBuf::from(piece), &folders)
        }
        _ => Err(USAGE.to_owned()),
    };
    let (code, lines) = match outcome {
        Ok(done) => done,
        Err(reason) => return print(err, &[format!("outsider: {reason}")]).map_or(2, |()| 2),
    };
    print(out, &lines).map_or(2, |()| code)
}

fn print(to: &mut dyn Write, lines: &[String]) -> Option<()> {
    lines.iter().try_for_each(|line| writeln!(to, "{line}")).ok()
}

fn search(piece: &PathBuf, folders: &[PathBuf]) -> Result<(u8, Vec<String>), String> {
    let bytes = std::fs::read(piece).map_err(|error| format!("{}: {error}", piece.display()))?;
    match scan(&bytes, folders).map_err(|error| causes(&error))? {
        (Some(path), _) => Ok((1, vec![path.display().to_string()])),
        (None, _) => Ok((0, Vec::new())),
    }
}

fn probe(address: &str, did: &str, ids: &[&str]) -> Result<(u8, Vec<String>), String> {
    let address = Address::new(address).ok_or("not an address")?;
    let did: Did = did.parse().map_err(describe)?;
    let ids = ids.iter().map(|id| digest(id)).collect::<Result<_, _>>()?;
    let target = Target { address, did, ids, layers: vec![MAIN_LAYER.to_owned()] };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(describe)?;
    let mut probe = Probe::new(target, Keys::Fresh, Arc::new(SystemEntropy));
    match runtime.block_on(probe.all()) {
        Ok(findings) => Ok((0, report(findings))),
        Err(error) => Ok((1, vec![format!("no connection: {}", causes(&error))])),
    }
}

fn report(mut findings: Findings) -> Vec<String> {
    let json = findings.json();
    findings.lines.push(json);
    findings.lines
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let hex = || -> Option<[u8; 32]> {
        let digits = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        digits.collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    let id = || text.parse().ok().map(|id: BlockId| *id.digest());
    hex().or_else(id).ok_or_else(|| format!("not an id: {text}"))
}

fn describe(error: impl Display) -> String {
    error.to_string()
}

fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The operating system's generator: every run is another stranger.
#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "without randomness there is nothing to do")]
        getrandom::fill(out).expect("the operating system has randomness");
    }
}
