//! Child processes of the bench: started on one core, ended with the bench whatever happens, and read out of `/proc`
//! for the CPU time and the memory they took.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Files that each process of the bench may have open: 1,000 streams need 2,000 sockets in a proxy.
const OPEN_FILES: u32 = 16_384;

/// A child process, killed and reaped when this is dropped.
///
/// `setpriv --pdeathsig KILL` makes the kernel do the same when the bench itself is killed and drops nothing.
pub struct Process {
    name: &'static str,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `program` on `core`; its standard error goes to the new file `log`, on a disk as in use.
    pub fn start(name: &'static str, core: usize, program: &Path, args: &[&str], log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        let mut process = Self::spawn(name, core, program, args, Stdio::null(), file.into())?;
        process.log = Some(log.to_owned());
        Ok(process)
    }

    /// Starts a sub-command of this very executable on `core` and returns it with the port that it prints.
    pub fn start_part(name: &'static str, core: usize, args: &[&str]) -> Result<(Self, SocketAddr)> {
        let program = std::env::current_exe().context("the path of the bench's own executable is unknown")?;
        let mut process = Self::spawn(name, core, &program, args, Stdio::piped(), Stdio::inherit())?;
        let stdout = process.child.stdout.take().context("a piped child has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port: u16 = line.trim().parse().with_context(|| format!("`{name}` printed {line:?} instead of a port"))?;
        Ok((process, loopback(port)))
    }

    fn spawn(
        name: &'static str,
        core: usize,
        program: &Path,
        args: &[&str],
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context("cannot start `setpriv`; hint: `setpriv`, `taskset` and `prlimit` are in Debian's util-linux")?;
        Ok(Self { name, child, log: None })
    }

    /// The process id: `setpriv` and `taskset` replace themselves, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens on `address`, or fails when the process ends or 10 seconds pass.
    pub fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = self.log.as_ref().map(fs::read_to_string).transpose()?.unwrap_or_default();
                bail!("`{}` ended at once with {status}; it said: {}", self.name, log.trim());
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(10) {
                bail!("`{}` does not listen on {address} after 10 s", self.name);
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either call fails only when the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process at one moment.
#[derive(Clone, Debug)]
pub struct CpuReading {
    /// Nanoseconds on a processor and ready but waiting for one, of each live thread (`/proc/PID/task/TID/schedstat`).
    threads: BTreeMap<u32, (u64, u64)>,
    /// utime + stime of all threads, ended ones too, in ticks of 10 ms (`/proc/PID/stat`, fields 14 and 15).
    ticks: u64,
}

impl CpuReading {
    /// Reads the CPU time that `pid` has used so far.
    pub fn of(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let tid = entry.file_name().to_string_lossy().parse()?;
            // A thread that ends between the two calls is found missing by `since`.
            if let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) {
                let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
                threads.insert(tid, numbers.next().zip(numbers.next()).context("unreadable schedstat")?);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, after_name) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(Self { threads, ticks: field(11) + field(12) })
    }

    /// CPU time between `earlier` and this reading; to the nanosecond unless a thread ended in between, then to 10 ms.
    pub fn since(&self, earlier: &Self) -> Duration {
        let same_threads = earlier.threads.keys().all(|tid| self.threads.contains_key(tid));
        if same_threads {
            self.nanos_since(earlier, |(ran, _)| ran)
        } else {
            Duration::from_millis((self.ticks - earlier.ticks) * 10)
        }
    }

    /// Time since `earlier` in which threads were ready and something else had their core: what others on the machine
    /// took from the measure.
    pub fn waited_since(&self, earlier: &Self) -> Duration {
        self.nanos_since(earlier, |(_, waited)| waited)
    }

    fn nanos_since(&self, earlier: &Self, part: fn((u64, u64)) -> u64) -> Duration {
        let before = |tid| earlier.threads.get(tid).copied().map_or(0, part);
        Duration::from_nanos(self.threads.iter().map(|(tid, now)| part(*now) - before(tid)).sum())
    }
}

/// Resident memory of `pid` in bytes, shared pages included (`Rss` of `/proc/PID/smaps_rollup`).
pub fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Moves every thread of `pid` to `core`.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    quietly(Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()]))
}

/// Raises the number of files that this process and its later children may open.
pub fn raise_open_files() -> Result<()> {
    let limit = format!("--nofile={OPEN_FILES}");
    quietly(Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &limit])).with_context(|| {
        format!("the bench needs {OPEN_FILES} open files; hint: raise the hard limit (`ulimit -H -n`)")
    })
}

fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?.port())
}

/// 127.0.0.1 with `port`.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
