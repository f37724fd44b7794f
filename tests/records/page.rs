//! The report of a replay in a real browser without a network: its charts are there and readable at the widths of a
//! desk and of a telephone, in light and in dark, the console is silent, and no request leaves the file.
//!
//! The browser is Debian's `chromium-headless-shell`, which `tests/run` installs; `TURNPIKE_TEST_BROWSER` names another.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use crate::traffic::{demo, record, save};

/// What looks at the page from outside: it is no part of it.
const MEASURE: &str = include_str!("measure.html");

/// A proxy that answers nothing and counts who comes: all that a browser asks of a network goes there.
fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, caught) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counting = Arc::clone(&caught);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    (format!("http://{address}"), caught)
}

/// What a browser says of a page: its document after all has loaded, and what it wrote elsewhere.
fn browse(page: &Path, dark: bool, arguments: &[String]) -> (String, String, usize) {
    let (proxy, caught) = trap();
    let profile = tempfile::tempdir().unwrap();
    let browser = std::env::var("TURNPIKE_TEST_BROWSER").unwrap_or_else(|_| "chromium-headless-shell".to_owned());
    let mut command = Command::new(&browser);
    command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files"]);
    command.args(["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]);
    command.args(["--enable-logging=stderr", "--virtual-time-budget=10000"]);
    command.arg(format!("--proxy-server={proxy}")).arg("--proxy-bypass-list=<-loopback>");
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
    let output = command.args(arguments).arg(format!("file://{}", page.display())).output();
    let output = output.unwrap_or_else(|error| panic!("`{browser}`: {error}; `tests/run` installs it"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (said, logged) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{logged}");
    (said, logged, caught.load(Ordering::SeqCst))
}

fn measured(folder: &Path, dark: bool) -> Value {
    let (document, logged, caught) = browse(&folder.join("measure.html"), dark, &["--dump-dom".to_owned()]);
    assert!(!logged.contains("CONSOLE"), "the console says something:\n{logged}");
    assert_eq!(caught, 0, "something was asked of a network");
    let (_, rest) = document.split_once("<pre id=\"measured\">").unwrap_or_else(|| panic!("{document}\n{logged}"));
    let json = rest.split_once("</pre>").unwrap().0.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}\n{logged}"))
}

/// A report of traffic that moves, beside the page that measures it.
fn report() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (records, policies) = (folder.join("records"), folder.join("policies"));
    record(&records, &demo("0.9 USD", str::to_owned), 3_000, 21);
    let edited = demo("0.9 USD", |text| {
        text.replace("input: 0.60 USD, output: 1.80 USD", "input: 0.06 USD, output: 0.18 USD")
            .replace("prefer: best}", "prefer: balanced}")
    });
    save(&edited, &policies);
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.arg("replay").arg("--policies").arg(&policies).arg(&records).arg("--html").arg(folder.join("report.html"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(folder.join("measure.html"), MEASURE).unwrap();
    folder
}

#[test]
fn the_report_is_readable_in_a_browser_that_has_no_network() {
    let folder = report();
    for dark in [false, true] {
        let measured = measured(&folder, dark);
        assert_eq!(measured["dark"], dark, "the browser's scheme");
        for page in measured["pages"].as_array().unwrap() {
            let width = page["width"].as_i64().unwrap();
            assert!(page["scrolls_to"].as_i64().unwrap() <= width, "at {width} it is wider than the window: {page}");
            let many = |what: &str| page[what].as_u64().unwrap();
            assert_eq!((many("charts"), many("lines"), many("bars"), many("tables")), (3, 2, 20, 5), "{page}");
            assert_eq!(page["faults"], Value::Array(Vec::new()), "at {width}, dark {dark}");
        }
        for width in [1280, 400] {
            let scheme = if dark { "dark" } else { "light" };
            let picture = folder.join(format!("{scheme}-{width}.png"));
            let arguments = [format!("--screenshot={}", picture.display()), format!("--window-size={width},2600")];
            browse(&folder.join("report.html"), dark, &arguments);
            assert!(picture.metadata().unwrap().len() > 10_000, "{}", picture.display());
        }
    }
}

#[test]
fn a_page_that_did_fetch_something_would_be_caught() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("fetches.html");
    std::fs::write(&page, "<img src=\"http://turnpike.invalid/a.png\"><script>console.error('heard')</script>")
        .unwrap();
    let (_, logged, caught) = browse(&page, false, &["--dump-dom".to_owned()]);
    assert!(caught > 0, "the trap sees nothing: {logged}");
    assert!(logged.contains("CONSOLE") && logged.contains("heard"), "{logged}");
}
