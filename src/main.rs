//! The `stoker` binary.

fn main() -> std::process::ExitCode {
    stoker::main()
}
