#!/bin/sh
# What must be clean before anything lands: format, lints, docs, licences and sources.
set -eu
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
if command -v cargo-deny >/dev/null; then
  cargo deny --log-level error check bans licenses sources
else
  echo "check: cargo-deny isn't installed (cargo install cargo-deny --locked): licences weren't checked"
fi
