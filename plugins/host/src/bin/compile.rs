//! The compile child as a program of its own.

fn main() -> std::process::ExitCode {
    stoker_plugins::compile_main()
}
