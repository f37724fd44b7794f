//! A PostgreSQL of one test: its own folder, its own port, gone at the end.

use std::{
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    user: Option<(u32, u32)>,
    port: u16,
    tls: bool,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server; with a certificate and a key among `files`, one with TLS.
    pub fn start(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let user = other_user(folder.path());
        let mut server = Self { programs: programs(), folder, user, port, tls: !files.is_empty(), child: None };
        let data = server.data();
        let mut initdb = server.command("initdb");
        initdb.args(["--no-sync", "-A", "trust", "-U", "turnpike", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, text) in files {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = server.user {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        server.restart();
        server
    }

    /// The address of its database.
    pub fn url(&self) -> String {
        format!("postgres://turnpike@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a crash would: nothing is closed, and its own log brings it back.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGQUIT to the first process takes the others with it, which SIGKILL would not.
            let _ = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }

    /// Starts it, and waits until it answers.
    pub fn restart(&mut self) {
        let (data, port) = (self.data(), self.port.to_string());
        let mut command = self.command("postgres");
        // A killed process loses nothing that it wrote; only a power cut would, and that is not tried here.
        command.arg("-D").arg(&data).args(["-p", &port, "-h", "127.0.0.1", "-c", "fsync=off", "-k"]).arg(&data);
        if self.tls {
            command.args(["-c", "ssl=on"]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begin = Instant::now();
        while self.try_query("SELECT 1::bigint").is_none() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the database does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The one number of a query; 0 while the tables are not there.
    pub fn count(&self, query: &str) -> i64 {
        self.try_query(query).and_then(|row| row.try_get(0).ok()).unwrap_or(0)
    }

    /// The three numbers of a query.
    pub fn numbers(&self, query: &str) -> [i64; 3] {
        let row = self.try_query(query).unwrap();
        [row.get(0), row.get(1), row.get(2)]
    }

    /// The one text of a query.
    pub fn text(&self, query: &str) -> String {
        self.try_query(query).unwrap().get(0)
    }

    pub fn run(&self, statement: &str) {
        self.with(async |client| client.batch_execute(statement).await.unwrap()).unwrap();
    }

    fn try_query(&self, query: &str) -> Option<tokio_postgres::Row> {
        self.with(async |client| client.query_one(query, &[]).await.ok()).flatten()
    }

    fn with<T>(&self, work: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.ok()?;
            tokio::spawn(connection);
            Some(work(&client).await)
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// The folder of the newest PostgreSQL: the programs proper are not in the path on Debian.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    let version = |path: &PathBuf| path.iter().nth_back(1)?.to_str()?.parse::<u32>().ok();
    folders.sort_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = folders
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|folder| ["initdb", "postgres"].iter().all(|program| folder.join(program).exists()));
    found.expect("no PostgreSQL here: `tests/run` installs it, on Debian it is the package `postgresql`")
}

/// PostgreSQL refuses to run as root: then it runs as its own user, or as nobody, who gets the folder.
fn other_user(folder: &Path) -> Option<(u32, u32)> {
    if std::fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut numbers = line.split(':').skip(2).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let user: (u32, u32) = of("postgres").or_else(|| of("nobody")).expect("no user to run PostgreSQL as");
    chown(folder, Some(user.0), Some(user.1)).unwrap();
    Some(user)
}
