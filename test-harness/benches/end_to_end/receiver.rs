//! The far side of a large transfer, in a process of its own: the benchmark starts itself once more, and the two talk in
//! lines. Memory is so told apart, and no side has the other's processor time on its account.
//!
//! ```text
//! end_to_end receiver KIND INVITATION      says `ready …` when it can receive
//! await ID   waits until the block can be read    says `here`
//! read ID    reads its content to the end         says how many bytes there were
//! take MIB   reads so much from a bare stream     says how many seconds that took
//! forget     forgets the most memory it took      says `done`
//! peak       …                                    says the most since then, in MB
//! (end of input)                                  ends
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use futures::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use walytis_core::id::BlockId;
use walytis_core::ledger::{Ledger, LedgerEvent, SubscribeFrom, Subscription};
use walytis_core::net::IncomingStream;

use crate::chains;
use crate::large::{PIECE, forget_peak, peak_mb};
use crate::private::Device;
use crate::stack::Stack;

/// The argument that makes this program a receiver.
pub(crate) const RECEIVER: &str = "receiver";
/// Protocol of the bare stream.
pub(crate) const BARE: &str = "/walytis/bench/1";

/// The process, as its parent sees it.
pub(crate) struct Receiver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said when it was ready.
    pub(crate) ready: String,
}

impl Receiver {
    /// Starts a receiver of one kind and waits until it is ready. Blocks the thread, as [`Self::ask`] does: the benchmark's
    /// own, which no task of the runtime needs.
    pub(crate) fn start(kind: &str, invitation: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([RECEIVER, kind, invitation]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut receiver = Self { child, input, output, ready: String::new() };
        receiver.ready = receiver.line();
        receiver
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the receiver has ended");
        line.trim_end().to_owned()
    }

    /// Lets it end in order.
    pub(crate) fn stop(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

/// What the process does.
pub(crate) async fn run(kind: &str, invitation: &str) {
    match kind {
        "private" => {
            let device = Device::join(10, invitation).await;
            obey(Some(&device.ledger), None).await;
            device.stop().await;
        }
        "public" => {
            let stack = Stack::start(12).await;
            let mut joined = chains::join_by(&stack, &invitation.parse().unwrap()).await;
            while joined.next().await.unwrap().is_some() {}
            obey(Some(&joined.chain), None).await;
            drop(joined);
            stack.stop().await;
        }
        _ => {
            let stack = Stack::start(14).await;
            let incoming = stack.network.accept(BARE).unwrap();
            let addresses: Vec<String> = stack.network.addresses().iter().map(|one| one.as_str().to_owned()).collect();
            println!("{}", addresses.join(" "));
            obey(None, Some(incoming)).await;
            stack.stop().await;
        }
    }
}

/// Does what the lines of the input say, until they end.
async fn obey(ledger: Option<&dyn Ledger>, mut incoming: Option<mpsc::Receiver<IncomingStream>>) {
    let mut events = None;
    if let Some(ledger) = ledger {
        events = Some(ledger.subscribe(SubscribeFrom::Now).await.unwrap());
        println!("ready");
    }
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (what, which) = line.split_once(' ').unwrap_or((&line, ""));
        match what {
            "await" => {
                until(events.as_mut().unwrap(), &which.parse().unwrap()).await;
                println!("here");
            }
            "read" => {
                let mut reader = ledger.unwrap().content(&which.parse().unwrap()).await.unwrap();
                println!("{}", tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap());
            }
            "take" => println!("{}", take(incoming.as_mut().unwrap(), which.parse().unwrap()).await),
            "forget" => {
                forget_peak();
                println!("done");
            }
            _ => println!("{}", peak_mb()),
        }
    }
}

/// Waits until a follower hears of a block.
pub(crate) async fn until(events: &mut Box<dyn Subscription>, id: &BlockId) {
    loop {
        let event = events.next().await.unwrap().unwrap();
        if matches!(&event, LedgerEvent::Block(info) if info.id == *id) {
            return;
        }
    }
}

/// Seconds that so many MiB of the next bare stream take.
async fn take(incoming: &mut mpsc::Receiver<IncomingStream>, mib: u32) -> f64 {
    let mut stream = incoming.recv().await.unwrap().stream;
    let mut piece = vec![0; PIECE];
    stream.read_exact(&mut piece[..1]).await.unwrap();
    let start = Instant::now();
    for _ in 0..mib {
        stream.read_exact(&mut piece).await.unwrap();
    }
    start.elapsed().as_secs_f64()
}
