//! Two gateways behind nginx, restarted one after the other under load: no client notices.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::JoinSet;

use crate::{
    harness::{Client, Gateway, chat, free_address, streamed, until},
    sky::{PATH, PAYER, billed, setup},
    upstream::{Script, Upstream},
};

const AT_ONCE: u64 = 16;
const RESTARTS: usize = 4;

/// nginx on a free port; ended with its process id.
struct Nginx {
    address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Nginx {
    async fn start(gateways: [SocketAddr; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), address, gateways)).unwrap();
        let child = Command::new(program())
            .args(["-p", folder.path().to_str().unwrap(), "-e", "error.log", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is not installed\nhint: tests/run installs it");
        let client = Client::new(address);
        until("nginx answers", async || client.try_get("/v1/models").await.is_ok()).await;
        Self { address, child, folder }
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    // Debian keeps servers out of an ordinary user's path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file()).unwrap_or_else(|| "nginx".into())
}

/// One process, as README.md advises: a request that was not sent goes to the other gateway, one that was is not repeated.
fn configuration(folder: &Path, address: SocketAddr, [one, two]: [SocketAddr; 2]) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream gateways {{ server {one} max_fails=0; server {two} max_fails=0; }}
    server {{
        listen {address};
        location / {{ proxy_pass http://gateways; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection close; }}
    }}
}}
"
    )
}

/// Asks until told to stop; how many were served, and what failed.
async fn load(client: Client, worker: u64, over: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut served, mut failed) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        if (served + worker).is_multiple_of(2) {
            let answer = client.post(PATH, &chat("one-model")).await;
            if answer.status != 200 {
                failed.push(format!("{answer:?}"));
            }
        } else {
            let stream = client.post_stream(PATH, &streamed("one-model")).await.transcript().await;
            if !stream.is_done() || stream.error().is_some() {
                failed.push(format!("{} {}", stream.status, stream.text()));
            }
        }
        served += 1;
    }
    (served, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_behind_nginx_restart_in_turn_under_load() {
    let upstream = Upstream::start().await;
    upstream.always(Script::says("a b c d e f").pace(std::time::Duration::from_millis(2)));
    let setup = setup().backend("one", &upstream.base_url());
    let mut gateways: [Gateway; 2] = [setup.start().await, setup.start().await];
    let nginx = Nginx::start([gateways[0].address(), gateways[1].address()]).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut loading = JoinSet::new();
    for worker in 0..AT_ONCE {
        let client = Client::new(nginx.address).header("authorization", &format!("Bearer {PAYER}"));
        loading.spawn(load(client, worker, over.clone()));
    }
    for restart in 0..RESTARTS {
        let seen = upstream.tally().requests;
        upstream.until(|tally| tally.requests > seen + 50).await;
        let gateway = &mut gateways[restart % 2];
        gateway.terminate();
        assert_eq!(gateway.exit_code().await, Some(0), "{}", gateway.log());
        *gateway = gateway.site().clone().start().await;
    }
    over.store(true, Ordering::Relaxed);
    let ended = loading.join_all().await;
    let served: u64 = ended.iter().map(|(served, _)| served).sum();
    let failed: Vec<&String> = ended.iter().flat_map(|(_, failed)| failed).collect();
    println!("{served} served over {RESTARTS} restarts");
    assert!(failed.is_empty(), "{} of {served} failed: {:?}\n{}", failed.len(), failed.first(), nginx.errors());
    let mut booked = 0.0;
    for gateway in &gateways {
        until("all is settled", async || gateway.metric("turnpike_holds_open", &[]).await == 0.0).await;
        let audit = gateway.site().run_with(&[("TURNPIKE_TOKEN", crate::sky::READER)], &["audit", "--json"]).json();
        assert_eq!(audit["balanced"], true, "{audit}");
        booked += audit["charge_usd"].as_f64().unwrap();
    }
    assert_eq!((booked * 1e9).round() as u64, billed(&upstream));
}
