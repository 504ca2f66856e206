//! The binary `eagre`; all of it is `eagre::cli`.

// Columns of some hundred kilobytes come and go with every batch: an allocator that gives them back to the system each time, as
// glibc's does, spends half of the time of a fast pipeline on page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    eagre::cli::main(std::env::args_os())
}
