#!/bin/sh
# Builds the sample plugins into $CARGO_TARGET_DIR/plugins (default: target/plugins).
#
# It takes rustup's wasm target if it is there or can be added, else a toolchain of Debian, which
# builds the standard library from source:
#   apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld-19
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
case $target_dir in /*) ;; *) target_dir=$PWD/$target_dir ;; esac
out=$target_dir/plugins
triple=wasm32-unknown-unknown
guests=$root/plugins

has_rustup_target() {
    command -v rustup >/dev/null 2>&1 &&
        (cd "$guests" && rustup target list --installed | grep -qx "$triple" ||
            rustup target add "$triple")
}

if has_rustup_target; then
    cargo=cargo
    build_std=
else
    for tool in /usr/bin/rustc /usr/bin/cargo; do
        [ -x "$tool" ] || {
            echo "plugins: neither rustup's $triple nor Debian's rustc-web and cargo-web" >&2
            exit 1
        }
    done
    linker=$(command -v wasm-ld || ls /usr/bin/wasm-ld-* 2>/dev/null | tail -n 1)
    [ -n "$linker" ] || { echo "plugins: no wasm-ld; install lld-19" >&2; exit 1; }
    cargo=/usr/bin/cargo
    build_std=-Zbuild-std=std,panic_abort
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker"
fi

export CARGO_TARGET_DIR="$target_dir/guests"
"$cargo" fetch --quiet --locked --manifest-path "$guests/Cargo.toml"

# The paths of this machine must not reach the bytes.
flags="-Ctarget-feature=+simd128 --remap-path-prefix=$root=/stoker"
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags="$flags --remap-path-prefix=$sources=/crates"
done
export RUSTFLAGS="$flags"
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# shellcheck disable=SC2086 # an empty option must vanish
"$cargo" build --quiet --release --locked --target "$triple" $build_std \
    --manifest-path "$guests/Cargo.toml" --package augment --package macro-f1

mkdir -p "$out"
for plugin in augment macro_f1; do
    # By rename, so that a test that runs at the same time never sees half a file.
    cp "$CARGO_TARGET_DIR/$triple/release/$plugin.wasm" "$out/.$plugin.$$"
    mv "$out/.$plugin.$$" "$out/$plugin.wasm"
    echo "$out/$plugin.wasm"
done
