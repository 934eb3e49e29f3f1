#!/bin/sh
# Builds stornx as one static program, as the image has it: target/TARGET/image/stornx.
#
#   deploy/image/build-static.sh [TARGET [LINKER]]
set -eu
target="${1:-x86_64-unknown-linux-gnu}"
linker="${2:-cc}"
# The C library is linked in; names are looked up by the files in /etc alone, which is all that
# a pod needs: /etc/resolv.conf and /etc/hosts.
name="$(printf %s "$target" | tr 'a-z-' 'A-Z_')"
export "CARGO_TARGET_${name}_RUSTFLAGS=-C target-feature=+crt-static -C relocation-model=pic"
export "CARGO_TARGET_${name}_LINKER=$linker"
# For the one crate with C in it.
export "CC_$(printf %s "$target" | tr - _)=$linker"
exec cargo build --locked --profile image --package stornx-daemon --bin stornx --target "$target"
