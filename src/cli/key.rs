//! `turnpike key`: client keys. The secret is shown once and stored nowhere.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    admin::api::{CreateKey, CreatedKey},
    base::{hex, tenants::Key},
    config,
    ledger::keys::{KeyOrder, KeyStore, KeyStoreError, NewKey, make},
    net::{body::UpstreamBody, pool::Pool, tls},
};

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and show it, this once.
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The team that pays.
    #[arg(long)]
    team: String,
    /// What the key is for.
    #[arg(long)]
    name: Option<String>,
    /// When it ends (`2027-01-01` or an instant).
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// It may ask why, once a later version answers that.
    #[arg(long)]
    explain: bool,
    /// Store nothing; print the row for the `keys:` section of a policy file.
    #[arg(long)]
    yaml: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "yaml")]
    json: bool,
    /// The configuration whose store the key goes into.
    #[arg(short, long, value_name = "FILE", default_value = "turnpike.yaml")]
    config: PathBuf,
    /// The admin address of a running gateway; by default that of the configuration.
    #[arg(long, value_name = "URL", env = "TURNPIKE_SERVER")]
    server: Option<String>,
    /// A file with the token for it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Runs one action.
///
/// # Errors
/// Whatever keeps the key from being made.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Action::Create(create) = args.action;
    let order = create.order()?;
    if create.yaml {
        let made = make(&order)?;
        anstream::println!("{}", yaml_row(&made.key));
        anstream::eprintln!("the key, shown this once: {}", made.secret.expose_secret());
        return Ok(ExitCode::SUCCESS);
    }
    let (id, secret) = create.stored(&order)?;
    if create.json {
        anstream::println!("{}", serde_json::json!({"id": id, "key": secret.expose_secret()}));
    } else {
        anstream::println!("{}", secret.expose_secret());
        anstream::eprintln!("key `{id}` of team `{}` was made; it is shown this once", order.team);
    }
    Ok(ExitCode::SUCCESS)
}

fn yaml_row(key: &Key) -> String {
    let name = key.name.as_deref().map(|name| format!(", name: {}", serde_json::json!(name))).unwrap_or_default();
    let expires = key.expires.map(|end| format!(", expires: {end}")).unwrap_or_default();
    let explain = if key.explain { ", explain: true" } else { "" };
    let team = serde_json::json!(key.team.as_str());
    format!("- {{id: {}, team: {team}, hash: \"sha256:{}\"{name}{expires}{explain}}}", key.id, hex::digits(&key.hash))
}

impl Create {
    fn order(&self) -> anyhow::Result<KeyOrder> {
        let expires = match &self.expires {
            Some(text) => Some(
                config::instant(text)
                    .map_err(|error| anyhow::anyhow!("`--expires`: not a time; hint: {}", error.hint))?,
            ),
            None => None,
        };
        if expires.is_some_and(|end| end <= Timestamp::now()) {
            bail!("`--expires` lies in the past");
        }
        let name = self.name.clone();
        Ok(KeyOrder { team: self.team.as_str().into(), name, expires, explain: self.explain })
    }

    /// Makes and stores the key: in the file, or through the gateway that has it open.
    fn stored(&self, order: &KeyOrder) -> anyhow::Result<(String, SecretString)> {
        if let Some(server) = &self.server {
            return self.through(server, order);
        }
        let environment = |name: &str| std::env::var(name).ok();
        let loaded = config::load(&self.config, &environment).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        if !loaded.policies.teams.contains_key(self.team.as_str()) {
            bail!("there is no team `{}` in the policies", self.team);
        }
        match KeyStore::open(&loaded.server.journal) {
            Ok(store) => {
                let NewKey { key, secret } = make(order)?;
                store.insert(&key)?;
                Ok((key.id.to_string(), secret))
            }
            Err(KeyStoreError::InUse(_)) => self.through(&format!("http://{}", loaded.server.admin.listen), order),
            Err(error) => Err(error.into()),
        }
    }

    fn through(&self, server: &str, order: &KeyOrder) -> anyhow::Result<(String, SecretString)> {
        let token = token(self.token_file.as_deref())?;
        let body = CreateKey {
            team: order.team.to_string(),
            name: order.name.clone(),
            expires: order.expires,
            explain: order.explain,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let created = runtime.block_on(post(server, &token, &body))?;
        Ok((created.id, created.secret.into()))
    }
}

fn token(file: Option<&Path>) -> anyhow::Result<SecretString> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("`{}` cannot be read", file.display()))?;
        return Ok(text.trim().to_owned().into());
    }
    match std::env::var("TURNPIKE_TOKEN") {
        Ok(token) => Ok(token.into()),
        Err(_) => bail!(
            "the gateway is running, so the key must be made through its admin API, which wants a token\n\
             hint: put one with `may: [keys]` into `admin.tokens` and set `TURNPIKE_TOKEN` or `--token-file`"
        ),
    }
}

async fn post(server: &str, token: &SecretString, body: &CreateKey) -> anyhow::Result<CreatedKey> {
    let uri: http::Uri = format!("{}/api/v1/keys", server.trim_end_matches('/')).parse().context("`--server`")?;
    let body = serde_json::to_vec(body)?;
    let request = http::Request::post(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
        .body(UpstreamBody::new(vec![body.into()]))?;
    let pool = Pool::new(tls::client_config(None)?);
    let answering = async {
        let answer = pool.send(request, std::time::Duration::from_secs(5)).await?;
        let (head, body) = answer.into_parts();
        anyhow::Ok((
            head.status,
            http_body_util::Limited::new(body, 1 << 20).collect().await.map(|body| body.to_bytes()),
        ))
    };
    let limit = std::time::Duration::from_secs(30);
    let (status, body) = tokio::time::timeout(limit, answering).await.context("the gateway did not answer")??;
    let body = body.map_err(|error| anyhow::anyhow!("the gateway's answer broke off: {error}"))?;
    if !status.is_success() {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!("the gateway refused ({status}): {}", said["error"]["message"].as_str().unwrap_or("no reason given"));
    }
    Ok(serde_json::from_slice(&body)?)
}
