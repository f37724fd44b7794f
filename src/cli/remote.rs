//! The admin API of a running gateway, as commands use it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};

use crate::net::{body::UpstreamBody, pool::Pool, tls};

/// The longest answer, in bytes: about a hundred thousand keys.
const LONGEST: usize = 64 << 20;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the whole answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a running gateway is found, on the command line.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The configuration: where its store is, and where the gateway that has it open.
    #[arg(short, long, value_name = "FILE", default_value = "turnpike.yaml")]
    pub config: PathBuf,
    /// The admin address of a running gateway; by default that of the configuration.
    #[arg(long, value_name = "URL", env = "TURNPIKE_SERVER", value_parser = super::flags::gateway)]
    pub server: Option<String>,
    /// A file with the token for it, instead of `TURNPIKE_TOKEN`.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Server {
    /// The running gateway that `--server` names.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn named(&self) -> anyhow::Result<Option<Remote>> {
        self.server.as_ref().map(|address| Remote::new(address, self.token_file.as_deref())).transpose()
    }

    /// The one whose admin listener is at `listen` by the configuration.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn running(&self, listen: SocketAddr) -> anyhow::Result<Remote> {
        Remote::new(format!("http://{listen}"), self.token_file.as_deref())
    }
}

/// A running gateway.
pub struct Remote {
    server: String,
    token: SecretString,
}

impl Remote {
    /// The gateway at `server`, with the token from its file or from the environment.
    ///
    /// # Errors
    /// A token that is missing or cannot be read.
    pub fn new(server: impl Into<String>, token_file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { server: server.into().trim_end_matches('/').to_owned(), token: token(token_file)? })
    }

    /// What it answers to one request.
    ///
    /// # Errors
    /// A gateway that does not answer, refuses, or says something else than `T`.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let uri: Uri = format!("{}{path}", self.server).parse().context("`--server` is not an address")?;
        if uri.scheme().is_none() {
            bail!("`--server {}` is not an address\nhint: write `http://HOST:PORT`, as in `admin.listen`", self.server);
        }
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose_secret()));
        let mut bytes = Vec::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            bytes.push(serde_json::to_vec(body)?.into());
        }
        let request = request.body(UpstreamBody::new(bytes)).context("the token is not one that can be sent")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(self.send(request))?;
        if !status.is_success() {
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let message = said["error"]["message"].as_str().unwrap_or("no reason given");
            bail!("the gateway refused ({}): {message}", status.as_u16());
        }
        serde_json::from_slice(&body).with_context(|| format!("`{}` does not answer as a gateway does", self.server))
    }

    async fn send(&self, request: Request<UpstreamBody>) -> anyhow::Result<(http::StatusCode, bytes::Bytes)> {
        let pool = Pool::new(tls::client_config(None)?);
        let answering = async {
            let answer = pool.send(request, CONNECT).await;
            let answer = answer.with_context(|| format!("no gateway answers at `{}`", self.server))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the gateway's answer broke off: {error}"))?;
            anyhow::Ok((head.status, body.to_bytes()))
        };
        let answered = tokio::time::timeout(PATIENCE, answering).await;
        answered.with_context(|| format!("the gateway at `{}` did not answer in time", self.server))?
    }
}

fn token(file: Option<&Path>) -> anyhow::Result<SecretString> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("`{}` cannot be read", file.display()))?;
        return Ok(text.trim().to_owned().into());
    }
    match std::env::var("TURNPIKE_TOKEN") {
        Ok(token) => Ok(token.trim().to_owned().into()),
        Err(_) => bail!(
            "a running gateway is asked through its admin API, which wants a token\n\
             hint: set `TURNPIKE_TOKEN` or `--token-file` to one of `admin: {{tokens: [{{name: ops, token: \"${{TURNPIKE_TOKEN}}\", \
             may: [read, keys, budgets, switch]}}]}}`"
        ),
    }
}
