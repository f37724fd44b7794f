//! A `redis-server` of the test's own: a free port, a folder of its own, ended by its process id.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use turnpike::{
    base::store::{RedisConfig, RedisPlace},
    ledger::redis::{connect::connect, scripts::Wire},
};

/// A running server. It ends with the value.
pub struct Server {
    process: Option<Child>,
    pub port: u16,
    pub folder: TempDir,
    options: Vec<String>,
    /// Whether it is a sentinel, whose configuration is a file in the folder.
    sentinel: bool,
}

/// A port that nobody listens on. Somebody may take it before the server does, which then tries another.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A server without persistence, with further `options` (`--name value`).
    pub async fn start(options: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            sentinel: false,
        };
        server.run().await;
        server
    }

    /// A sentinel that alone decides over the server at `port`, which it calls `main`.
    pub async fn sentinel(port: u16) -> Self {
        let (own, folder) = (free_port(), tempfile::tempdir().unwrap());
        let text = format!(
            "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("sentinel.conf"), text).unwrap();
        let mut server = Self { process: None, port: own, folder, options: Vec::new(), sentinel: true };
        server.run().await;
        server
    }

    /// Starts the process again, on the same port and with the same folder.
    pub async fn run(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new("redis-server");
        if self.sentinel {
            command.arg(self.folder.path().join("sentinel.conf")).arg("--sentinel");
        } else {
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
            command.arg("--dir").arg(self.folder.path()).args(&self.options);
        }
        self.process = Some(command.stdout(log).stderr(Stdio::null()).spawn().expect("redis-server is not installed"));
        for _ in 0..500 {
            if self.plain().await.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not answer");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn config(&self) -> RedisConfig {
        RedisConfig::at(RedisPlace::Single(self.url().into()))
    }

    /// A connection that knows the scripts.
    pub async fn wire(&self) -> Wire {
        connect(&self.config()).await.unwrap()
    }

    async fn plain(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url()).ok()?;
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        Some(connection)
    }

    /// A connection for looking behind the scenes.
    pub async fn look(&self) -> MultiplexedConnection {
        self.plain().await.unwrap()
    }

    /// Runs one command of words, for its effect.
    pub async fn tell(&self, words: &str) -> redis::Value {
        let mut cmd = redis::Cmd::new();
        for word in words.split(' ') {
            cmd.arg(word);
        }
        cmd.query_async(&mut self.look().await).await.unwrap()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
