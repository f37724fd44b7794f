//! A folder with `turnpike.yaml` and policies: a gateway is started in it, commands are run in it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Gateway, Setup, free_address};

/// The files of a gateway, which may run or not. Clones are the same folder; the last one removes it.
#[derive(Clone)]
pub struct Site {
    pub(super) clients: SocketAddr,
    pub(super) admin: SocketAddr,
    folder: Arc<TempDir>,
    environment: Vec<(String, String)>,
}

impl Site {
    pub(super) fn write(setup: &Setup) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (clients, admin) = (free_address(), free_address());
        let tokens = setup.tokens.join(", ");
        let server = format!("listen: {clients}\nadmin: {{listen: \"{admin}\", tokens: [{tokens}]}}\n{}", setup.server);
        std::fs::write(folder.path().join("turnpike.yaml"), server).unwrap();
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        std::fs::write(folder.path().join("policies/test.yaml"), setup.policy_file()).unwrap();
        Self { clients, admin, folder, environment: setup.environment.clone() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The operators' address.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Replaces the policy file in one step, as an editor does.
    pub fn save_policies(&self, yaml: &str) {
        let folder = self.path().join("policies");
        std::fs::write(folder.join(".test.yaml.new"), yaml).unwrap();
        std::fs::rename(folder.join(".test.yaml.new"), folder.join("test.yaml")).unwrap();
    }

    /// Starts the gateway and waits until it is ready.
    pub async fn start(&self) -> Gateway {
        let mut command = self.command(&["serve", "-c", "turnpike.yaml"]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let writing = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writing.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let gateway = Gateway { site: self.clone(), child, log };
        gateway.ready().await;
        gateway
    }

    /// Runs `turnpike` with these arguments in the folder.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(&[], arguments)
    }

    /// The same with further variables in its environment, which is empty but for them.
    pub fn run_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
        let Output { status, stdout, stderr } =
            self.command(arguments).envs(environment.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; none when it was killed.
    pub code: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Said {
    /// Its data, once it succeeded.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.trim_end().to_owned()
    }

    /// Its data as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Fails unless it failed with that code, and told of each of these.
    #[track_caller]
    pub fn failed(self, code: i32, told: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in told {
            assert!(self.stderr.contains(part), "`{part}` is missing: {self:?}");
        }
        assert!(self.stdout.is_empty(), "a failure has no data: {self:?}");
    }
}
