# What the scripts beside this one have in common. Sourced, with the name of the script's part as the first argument.
#
# A script works in a directory of its own that goes away with it, counts its checks, and ends with `finish`. The cells of
# the tables in docs/interop.md are checks too: `run` compares the two.
# shellcheck shell=bash
set -euo pipefail

part="$1"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

# Nothing that the person at the machine has set up may change what the tools do.
unset ORAS_CACHE DOCKER_CONFIG REGISTRY_AUTH_FILE SOURCE_DATE_EPOCH CONTAINERS_STORAGE_CONF
export LC_ALL=C NO_COLOR=1
# `run` has looked already, and says so.
if [ -z "${TOOLS_READY:-}" ]; then
    go_tools="$("$here/tools" | tail -n 1)"
    export PATH="$go_tools:$PATH:/usr/sbin:/sbin" TOOLS_READY=1
fi
if [ -z "${ORLOP:-}" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/orlop-target}"
    (cd "$root" && cargo build --locked --release --features cli)
    export ORLOP="$CARGO_TARGET_DIR/release/orlop"
fi
ORLOP="$(realpath "$ORLOP")"
orlop() { "$ORLOP" "$@"; }

work="$(mktemp -d)"
mounts=()
loops=()
processes=()
cleanup() {
    local process mounted loop
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    for mounted in "${mounts[@]}"; do privileged umount "$mounted" 2>/dev/null || true; done
    for loop in "${loops[@]}"; do privileged losetup --detach "$loop" 2>/dev/null || true; done
    cd /
    rm -rf "$work" 2>/dev/null || privileged rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
export HOME="$work/home" TMPDIR="$work/tmp" XDG_RUNTIME_DIR="$work/run"
mkdir -p "$HOME" "$TMPDIR" "$XDG_RUNTIME_DIR"

# As root, for mounts and for tools that make containers.
privileged() { if [ "$(id -u)" -eq 0 ]; then command "$@"; else command sudo -n "$@"; fi; }
# Takes over what a tool has written as root.
own() { [ "$(id -u)" -eq 0 ] || privileged chown -R "$(id -u):$(id -g)" "$@"; }

passed=0
failed=0
not_run=0
# check WHAT COMMAND...: the command must succeed. Its output is shown when it does not.
check() {
    local what="$1"
    shift
    # Outside of any condition, so that a function ends at its first failure.
    set +e
    (set -e; "$@") >"$work/output" 2>&1
    local status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok    $what"
    else
        failed=$((failed + 1))
        echo "FAILED $what: $*"
        sed 's/^/    /' "$work/output"
    fi
    return 0
}
# cell TABLE/ROW/COLUMN yes|no COMMAND...: a check that stands in a table of docs/interop.md. A cell that says no is one
# where the command must fail: a tool that has learned to do it is to be told in the table.
cell() {
    local id="$1" expected="$2" before="$failed"
    shift 2
    if [ "$expected" = yes ]; then check "$id" "$@"; else check "$id does not work" refused "$@"; fi
    if [ "$failed" -eq "$before" ] && [ -n "${CELLS:-}" ]; then echo "$id $expected" >>"$CELLS"; fi
}
# covers TABLE/ROW/COLUMN COMMAND...: a cell for which several checks speak, that the command makes.
covers() {
    local id="$1" before="$failed"
    shift
    "$@"
    if [ "$failed" -eq "$before" ] && [ -n "${CELLS:-}" ]; then echo "$id yes" >>"$CELLS"; fi
}
# skip TABLE/ROW WHY: what this machine cannot try. It is counted, and shown at the end.
skip() {
    not_run=$((not_run + 1))
    echo "NOT RUN $1: $2"
    [ -z "${CELLS:-}" ] || echo "skipped $1/" >>"$CELLS"
}
section() { echo "== $part: $*"; }
finish() {
    local more=""
    [ "$not_run" -eq 0 ] || more=", $not_run not run"
    if [ -n "${RESULTS:-}" ]; then echo "$passed $failed $not_run $part" >>"$RESULTS"; fi
    echo "== $part: $passed passed, $failed failed$more, $SECONDS s"
    [ "$failed" -eq 0 ] || exit 1
    exit 0
}

same() {
    [ "$1" = "$2" ] || { printf 'expected %s\nfound    %s\n' "$1" "$2"; return 1; }
}
refused() {
    local status
    # Not as a condition, within which a function would not end at its first failure.
    set +e
    (set -e; "$@")
    status=$?
    set -e
    [ "$status" -ne 0 ] || { echo "it succeeded"; return 1; }
}
contains() {
    local text="$1" found
    shift
    found="$("$@")"
    [[ "$found" == *"$text"* ]] || { printf 'not found: %s\nin %s\n' "$text" "$found"; return 1; }
}
# The first argument is a reference that the rest, a command, must give the digest of.
digest_is() {
    local wanted="$1" found
    shift
    found="$("$@")"
    same "$wanted" "$found"
}
# Of a list, the image that is the same one on every machine.
copy() { skopeo --insecure-policy --override-arch amd64 copy --quiet "$@"; }
# The digest of the bytes on the standard input.
hashed() { echo "sha256:$(sha256sum | cut -d' ' -f1)"; }
blob() { echo "$1/blobs/${2/:/\/}"; }
# Every file under blobs/ is what its name says.
whole() {
    (cd "$1/blobs/sha256" && for file in *; do echo "$file  $file"; done | sha256sum --check --quiet --strict)
}
# What index.json names NAME, and all names in it: read without orlop.
indexed() {
    jq -r --arg name "$2" '.manifests[] | select(.annotations."org.opencontainers.image.ref.name" == $name) | .digest' \
        "$1/index.json"
}
names() { jq -r '.manifests[].annotations."org.opencontainers.image.ref.name" // empty' "$1/index.json" | sort; }
digests() { jq -r '.manifests[].digest' "$1/index.json" | sort -u; }
# All that a directory holds, with times: what reading must not change. .orlop/metadata is looked at too.
listing() { find "$1" -printf '%P %y %s %T@ %i\n' | sort; }

# Files to push, and an image as a layer and a config.
files() {
    cp "$root/LICENSE" LICENSE
    printf 'small\n' >small
    : >empty
    head -c 300000 /dev/urandom >large.bin
    mkdir -p files/opt/bin
    cp LICENSE files/opt/license
    printf '#!/bin/sh\necho hello\n' >files/opt/bin/hello
    chmod +x files/opt/bin/hello
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C files -cf layer.tar opt
    gzip -nk layer.tar
    local arch
    for arch in amd64 arm64; do
        jq -n --arg arch "$arch" --arg diff "$(hashed <layer.tar)" '{architecture: $arch, os: "linux",
            config: {Entrypoint: ["/opt/bin/hello"]}, rootfs: {type: "layers", diff_ids: [$diff]},
            history: [{created: "2026-01-02T03:04:05Z"}]}' >"config.$arch.json"
    done
}
image_config=application/vnd.oci.image.config.v1+json
image_layer=application/vnd.oci.image.layer.v1.tar+gzip
image_index=application/vnd.oci.image.index.v1+json
image_manifest=application/vnd.oci.image.manifest.v1+json
# push_image LAYOUT:TAG [ARCHITECTURE] [FLAG...]
push_image() {
    local target="$1" arch="${2:-amd64}"
    shift
    [ $# -eq 0 ] || shift
    orlop push -q "$@" "oci:$target" --config "config.$arch.json:$image_config" "layer.tar.gz:$image_layer" \
        --annotation org.opencontainers.image.created=2026-01-02T03:04:05Z >/dev/null
}
# A manifest as a list names it.
listed() {
    jq -c --arg digest "$2" --arg arch "$3" '.manifests[] | select(.digest == $digest) |
        {mediaType, digest, size, platform: {os: "linux", architecture: $arch}}' "$1/index.json" | head -n 1
}

# The layouts that orlop writes for the tools to read, one for each column of the table "reads":
# store, plain, cp, checkpoint, repositories, image, index and sparse. Sets a variable of that name with the digest of what is to be read.
made() {
    local directory flag
    files
    for directory in store plain; do
        flag=()
        [ "$directory" = store ] || flag=(--plain)
        orlop push -q "${flag[@]}" "oci:$directory:v1" LICENSE large.bin small:text/plain empty >/dev/null
        orlop tag -q "${flag[@]}" "oci:$directory:v1" latest >/dev/null
        sbom="$(orlop attach -q "${flag[@]}" "oci:$directory:v1" \
            --artifact-type application/vnd.example.sbom --annotation org.opencontainers.image.created=2026-01-02T03:04:05Z \
            small:text/plain)"
        orlop attach -q "${flag[@]}" "oci:$directory@$sbom" --artifact-type application/vnd.example.signature \
            --annotation org.opencontainers.image.created=2026-01-02T03:04:05Z LICENSE:text/plain >/dev/null
    done
    store="$(indexed store v1)"
    plain="$(indexed plain v1)"
    orlop cp -r -q oci:store:v1 oci:cp:v1 >/dev/null
    cp="$(indexed cp v1)"
    orlop checkpoint -q oci:store checkpoint >/dev/null
    checkpoint="$(indexed checkpoint v1)"
    orlop push -q oci:repositories:v1 small >/dev/null
    orlop push -q oci:repositories:lib/app:v1 LICENSE >/dev/null
    push_image repositories:lib/image:v1
    repositories="$(indexed repositories lib/app:v1)"
    push_image image:v1
    image="$(indexed image v1)"
    made_index
}
# A list of two images, and the same list where one of them is not there.
made_index() {
    local arm amd document
    push_image index:amd64 amd64
    push_image index:arm64 arm64
    amd="$(indexed index amd64)"
    arm="$(indexed index arm64)"
    document="$(jq -cn --argjson amd "$(listed index "$amd" amd64)" --argjson arm "$(listed index "$arm" arm64)" \
        --arg type "$image_index" '{schemaVersion: 2, mediaType: $type, manifests: [$amd, $arm]}')"
    printf '%s' "$document" >index.document
    orlop manifest push -q oci:index:v1 index.document >/dev/null
    index="$(indexed index v1)"
    push_image sparse:amd64 amd64
    # orlop takes no list that is not complete by itself, but keeps what another tool has made.
    oras manifest push --oci-layout sparse:v1 index.document >/dev/null
    orlop tag -q oci:sparse:v1 also >/dev/null 2>&1
    sparse="$(indexed sparse v1)"
}
# A registry on the loopback for the tools that can write a layout only from one. Sets `registry` to host:port.
start_registry() {
    mkdir -p "$work/registry"
    printf 'version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:0"}\n' \
        "$work/registry" >"$work/registry.yml"
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    processes+=("$!")
    local try
    for try in $(seq 100); do
        registry="$(sed -n 's/.*listening on \(127[0-9.]*:[0-9]*\).*/\1/p' "$work/registry.log" | head -n 1)"
        [ -z "$registry" ] || return 0
        sleep 0.1
    done
    echo "error: the registry does not start, tries=$try" >&2
    cat "$work/registry.log" >&2
    exit 1
}
