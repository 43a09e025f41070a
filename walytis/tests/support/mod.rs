//! Real processes: the program, its daemons and their data folders.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test support; each test file uses its part"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node: a data folder, and a daemon while one runs.
pub(crate) struct Node {
    dir: PathBuf,
    /// The folder goes with the node if it is the node's own.
    own: Option<TempDir>,
    daemon: Option<Child>,
    /// What the daemon said when it was ready.
    pub(crate) ready: Value,
}

impl Node {
    /// A node with an empty folder.
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut node = Self::at(own.path());
        node.own = Some(own);
        node
    }

    /// A node in a folder that somebody else removes.
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), own: None, daemon: None, ready: Value::Null }
    }

    /// A node whose daemon runs on loopback.
    pub(crate) fn started() -> Self {
        let mut node = Self::new();
        node.start(&[]);
        node
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walytis"));
        command.arg("--data-dir").arg(self.dir()).args(args).env_remove("WALYTIS_DATA_DIR");
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&mut self, more: &[&str]) {
        let mut args =
            vec!["daemon", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
        args.extend(more);
        let mut child = self.command(&args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        self.ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the daemon said {line:?}"));
        self.daemon = Some(child);
    }

    /// Ends the daemon with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Most memory that the daemon has taken so far, in kB.
    pub(crate) fn memory_kb(&self) -> u64 {
        let pid = self.daemon.as_ref().expect("a daemon").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Ends the daemon with SIGTERM and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.daemon.take()?;
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::yield_now();
        }
        child.kill().unwrap();
        panic!("the daemon did not stop");
    }

    /// Runs a command with input and returns what came of it.
    pub(crate) fn run_with(&self, input: &[u8], args: &[&str]) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses early closes its input.
        let _refused = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Runs a command.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(b"", args)
    }

    /// Runs a command with `--json` that must succeed, and returns its lines.
    pub(crate) fn lines_with(&self, input: &[u8], args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        let output = self.run_with(input, &args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same without input.
    pub(crate) fn lines(&self, args: &[&str]) -> Vec<Value> {
        self.lines_with(b"", args)
    }

    /// The last line of a command.
    pub(crate) fn value(&self, args: &[&str]) -> Value {
        self.lines(args).pop().expect("a value")
    }

    /// The last line of a command with input.
    pub(crate) fn value_with(&self, input: &[u8], args: &[&str]) -> Value {
        self.lines_with(input, args).pop().expect("a value")
    }

    /// Runs a command with `--json` that must fail with this code, and returns kind, message and hint.
    pub(crate) fn error_with(&self, code: i32, input: &[u8], args: &[&str]) -> (String, String, String) {
        let args: Vec<&str> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        let output = self.run_with(input, &args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no JSON in {text:?}"));
        let error = &serde_json::from_str::<Value>(line).unwrap()["error"];
        let field = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (field("kind"), field("message"), field("hint"))
    }

    /// The same without input.
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> (String, String, String) {
        self.error_with(code, b"", args)
    }

    /// Waits until `check` gives something.
    pub(crate) fn until<T>(&self, what: &str, mut check: impl FnMut(&Self) -> Option<T>) -> T {
        // A large content, where one is asked for, takes its time.
        let mib: u32 = std::env::var("WALYTIS_BLOB_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let patience = PATIENCE + Duration::from_millis(100) * mib;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(found) = check(self) {
                return found;
            }
        }
        panic!("did not happen within {patience:?}: {what}");
    }

    /// Sends a request to the daemon's API.
    fn request(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let file: Value = serde_json::from_slice(&std::fs::read(self.dir().join("api.json")).unwrap()).unwrap();
        let (url, token) = (file["url"].as_str().unwrap(), file["token"].as_str().unwrap());
        let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
        let mut socket = TcpStream::connect(host).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close");
        let length = body.len();
        write!(socket, "{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        socket
    }

    /// Asks the daemon's API for a stream; returns its events, which end when this is dropped.
    pub(crate) fn events(&self, path: &str) -> impl Iterator<Item = Value> + use<> {
        let lines = BufReader::new(self.request("GET", path, "")).lines();
        lines.map_while(Result::ok).filter_map(|line| {
            let data = line.strip_prefix("data: ")?.to_owned();
            Some(serde_json::from_str(&data).unwrap())
        })
    }

    /// Calls the daemon's API; returns status and JSON answer.
    pub(crate) fn api(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        use std::io::Read as _;
        let mut answer = String::new();
        self.request(method, path, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Every file below the data folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.dir().to_path_buf()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// Files that contain these bytes.
    pub(crate) fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let holds =
            |path: &PathBuf| std::fs::read(path).is_ok_and(|file| file.windows(bytes.len()).any(|w| w == bytes));
        self.files().into_iter().filter(holds).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a text field.
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}
