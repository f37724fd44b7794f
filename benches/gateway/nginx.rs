//! nginx as a plain reverse proxy: the least that a mature proxy in C costs, which every figure is compared with.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{Process, free_port, loopback};

/// Starts nginx on `core` in front of `upstream`, with its files under `folder`.
pub fn start(core: usize, folder: &Path, upstream: SocketAddr) -> Result<(Process, SocketAddr)> {
    let folder = folder.join("nginx");
    fs::create_dir_all(&folder)?;
    let address = loopback(free_port()?);
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration(&folder, address, upstream))?;
    let prefix = format!("{}/", folder.display());
    let error_log = folder.join("error.log").display().to_string();
    let arguments = ["-p", &prefix, "-e", &error_log, "-c", &file.display().to_string()];
    let mut process = Process::start("nginx", core, &program()?, &arguments, &folder.join("output"))?;
    process.wait_for(address)?;
    Ok((process, address))
}

/// `nginx version: …` as nginx says it.
pub fn version() -> Result<String> {
    let output = Command::new(program()?).arg("-v").output()?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().replace("nginx version: ", ""))
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/usr/local/nginx/sbin".into()])
        .map(|folder| folder.join("nginx"))
        .find(|file| file.is_file())
        .context("nginx is not installed; hint: `apt-get install nginx`, or leave it out with `--only floor,turnpike`")
}

/// One process that is master and worker in one, so that one process id has all of its CPU time.
fn configuration(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16384;
pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream model {{ server {upstream}; keepalive 2048; keepalive_requests 1000000000; keepalive_timeout 600s; }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Authorization \"Bearer upstream\";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"
    )
}
