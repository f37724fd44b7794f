//! The `turnpike` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages make memory that is hardly used resident and bring no speed. A kernel that knows no such switch is fine.
    let _ = nix::sys::prctl::set_thp_disable(true);
    turnpike::cli::run(std::env::args_os())
}
