//! The scripts: each is one atomic step in the store. Their texts lie beside this file.

use ::redis::{Arg, Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};

/// One script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Takes or raises a hold.
    Take,
    /// Ends one.
    Settle,
    /// Ends those that nobody renews any more.
    Sweep,
    /// Puts deadlines off.
    Renew,
    /// Moves a fence into another window.
    Adopt,
    /// Grants or takes back a slice.
    Lease,
    /// Sets a node's slices to what it says.
    Claim,
    /// A sign of life.
    Beat,
    /// Begins or joins a rebuild.
    Begin,
    /// Brings one node's sums to it.
    Part,
    /// Ends it.
    Finish,
    /// What stands against fences.
    Levels,
    /// Puts items up on the board.
    Post,
    /// Asks for new ones.
    Pull,
    /// Moves fences into other windows.
    Edit,
    /// Asks which windows run.
    Windows,
    /// What is settled, for an audit.
    Count,
    /// Gives back what a dead node leases.
    Release,
    /// Names the open holds of a node.
    Own,
    /// Says who books a rent.
    Rent,
}

/// All scripts in the order of the enum, with the first line that names and versions them: the line is part of the
/// digest under which the server knows a script, so two releases of the gateway never run each other's.
const TEXTS: [&str; 20] = [
    concat!("-- turnpike/1 take\n", include_str!("common.lua"), include_str!("window.lua"), include_str!("take.lua")),
    concat!("-- turnpike/1 settle\n", include_str!("common.lua"), include_str!("settle.lua")),
    concat!("-- turnpike/1 sweep\n", include_str!("common.lua"), include_str!("sweep.lua")),
    concat!("-- turnpike/1 renew\n", include_str!("common.lua"), include_str!("renew.lua")),
    concat!("-- turnpike/1 adopt\n", include_str!("common.lua"), include_str!("adopt.lua")),
    concat!("-- turnpike/1 lease\n", include_str!("common.lua"), include_str!("window.lua"), include_str!("lease.lua")),
    concat!("-- turnpike/1 claim\n", include_str!("common.lua"), include_str!("claim.lua")),
    concat!("-- turnpike/1 beat\n", include_str!("common.lua"), include_str!("beat.lua")),
    concat!("-- turnpike/1 begin\n", include_str!("common.lua"), include_str!("begin.lua")),
    concat!("-- turnpike/1 part\n", include_str!("common.lua"), include_str!("part.lua")),
    concat!("-- turnpike/1 finish\n", include_str!("common.lua"), include_str!("finish.lua")),
    concat!("-- turnpike/1 levels\n", include_str!("common.lua"), include_str!("levels.lua")),
    concat!("-- turnpike/1 post\n", include_str!("common.lua"), include_str!("post.lua")),
    concat!("-- turnpike/1 pull\n", include_str!("common.lua"), include_str!("pull.lua")),
    concat!("-- turnpike/1 edit\n", include_str!("common.lua"), include_str!("window.lua"), include_str!("edit.lua")),
    concat!(
        "-- turnpike/1 windows\n",
        include_str!("common.lua"),
        include_str!("window.lua"),
        include_str!("windows.lua")
    ),
    concat!("-- turnpike/1 count\n", include_str!("common.lua"), include_str!("count.lua")),
    concat!("-- turnpike/1 release\n", include_str!("common.lua"), include_str!("release.lua")),
    concat!("-- turnpike/1 own\n", include_str!("common.lua"), include_str!("own.lua")),
    concat!("-- turnpike/1 rent\n", include_str!("common.lua"), include_str!("rent.lua")),
];

/// One connection that knows the scripts.
#[derive(Clone, Debug)]
pub struct Wire {
    connection: MultiplexedConnection,
    /// The server's digests, in the order of [`TEXTS`].
    digests: Vec<String>,
    /// The key that holds the epoch.
    key: String,
}

impl Wire {
    /// A connection to the deployment `name`, with the scripts loaded.
    ///
    /// # Errors
    /// What the server says.
    pub async fn new(connection: MultiplexedConnection, name: &str) -> Result<Self, RedisError> {
        let mut wire = Self { connection, digests: Vec::new(), key: format!("{{tp:{name}}}:e") };
        wire.load().await?;
        Ok(wire)
    }

    async fn load(&mut self) -> Result<(), RedisError> {
        let mut digests = Vec::with_capacity(TEXTS.len());
        for text in TEXTS {
            let mut load = ::redis::cmd("SCRIPT");
            load.arg("LOAD").arg(text);
            digests.push(load.query_async(&mut self.connection).await?);
        }
        self.digests = digests;
        Ok(())
    }

    /// The call of a script; its arguments follow.
    pub fn call(&self, script: Script) -> Cmd {
        let mut cmd = ::redis::cmd("EVALSHA");
        cmd.arg(self.digests.get(script as usize)).arg(1).arg(&self.key);
        cmd
    }

    /// A key of the deployment outside the epochs: `rows` is the stream of settled rows.
    pub fn key(&self, name: &str) -> String {
        self.key.strip_suffix('e').unwrap_or_default().to_owned() + name
    }

    /// The key of the board.
    pub fn board_key(&self) -> String {
        self.key.strip_suffix('e').unwrap_or_default().to_owned() + "a"
    }

    /// Sends `cmd` and waits for the answer. A script that the server has forgotten is sent again with its text: the
    /// server runs and keeps it in one step, so that one that forgets again meanwhile does not refuse it.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn send(&self, cmd: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        match connection.send_packed_command(cmd).await.and_then(Value::extract_error) {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let Some(told) = self.with_text(cmd) else { return Err(error) };
                connection.send_packed_command(&told).await.and_then(Value::extract_error)
            }
            answer => answer,
        }
    }

    /// The call `cmd` with the script's text in the place of its digest.
    fn with_text(&self, cmd: &Cmd) -> Option<Cmd> {
        let mut parts = cmd.args_iter().skip(1).map(|part| match part {
            Arg::Simple(bytes) => bytes,
            _ => &[],
        });
        let digest = parts.next()?;
        let script = self.digests.iter().position(|known| known.as_bytes() == digest)?;
        let mut told = ::redis::cmd("EVAL");
        told.arg(TEXTS.get(script)?);
        for part in parts {
            told.arg(part);
        }
        Some(told)
    }
}
