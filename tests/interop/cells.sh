# The rows of the tables in docs/interop.md: what each of them has to show. Sourced behind lib.sh.
# shellcheck shell=bash

columns=(store plain cp checkpoint repositories image index sparse)
# Those that have the artifact of four files with something attached.
is_artifact() { case "$1" in store | plain | cp | checkpoint) true ;; *) false ;; esac; }
# What a tool is to read in each column, and its digest.
name_in() { if [ "$1" = repositories ]; then echo lib/app:v1; else echo v1; fi; }
digest_in() { echo "${!1}"; }

# reads ROW FUNCTION [COLUMN=no|-]...: FUNCTION LAYOUT NAME DIGEST uses the tool on what orlop has written.
# It works in every column that is not named.
reads() {
    local row="$1" function="$2" column expected
    shift 2
    for column in "${columns[@]}"; do
        expected=yes
        for exception in "$@"; do
            [ "${exception%%=*}" != "$column" ] || expected="${exception#*=}"
        done
        [ "$expected" != - ] || continue
        cell "reads/$row/$column" "$expected" "$function" "$column" "$(name_in "$column")" "$(digest_in "$column")"
    done
}

# A name or @DIGEST as the reference of orlop, and as a digest.
reference() { case "$2" in @*) echo "oci:$1$2" ;; *) echo "oci:$1:$2" ;; esac; }
# The first of the entries with a name, since crane lists the same one twice.
digest_of() { case "$2" in @*) echo "${2#@}" ;; *) indexed "$1" "$2" | sed -n 1p ;; esac; }

# writes ROW LAYOUT NAME [VERB=no]...: the tool has made LAYOUT, a bare one, and orlop works on it.
writes() {
    local row="$1" layout="$2" name="$3" target digest before
    shift 3
    target="$(reference "$layout" "$name")"
    digest="$(digest_of "$layout" "$name")"
    before="$(listing "$layout")"
    cell "writes/$row/ls" "$(expect ls "$@")" contains "$digest" orlop ls --all "oci:$layout"
    cell "writes/$row/resolve" "$(expect resolve "$@")" digest_is "$digest" orlop resolve "$target"
    cell "writes/$row/pull" "$(expect pull "$@")" orlop pull "$target" -o "pulled/$layout"
    cell "writes/$row/discover" "$(expect discover "$@")" contains "$digest" orlop discover "$target"
    check "$row: reading has written nothing" same "$before" "$(listing "$layout")"
    cell "writes/$row/push" "$(expect push "$@")" push_beside "$layout" "$name" "$digest"
    cell "writes/$row/attach" "$(expect attach "$@")" attach_to "$layout" "$name" "$digest"
}
expect() {
    local verb="$1"
    shift
    case " $* " in *" $verb=no "*) echo no ;; *) echo yes ;; esac
}
push_beside() {
    named "$1" >named.before
    ls "$1"/blobs/* >blobs.before
    orlop push -q "oci:$1:beside" small
    [ -d "$1/.orlop" ]
    [ -n "$(indexed "$1" beside)" ]
    all_there "$1" named.before
    ls "$1"/blobs/* | all_lines blobs.before
    whole "$1"
    digest_is "$3" orlop resolve "$(reference "$1" "$2")"
}
attach_to() {
    named "$1" >named.before
    local attached
    attached="$(orlop attach -q "$(reference "$1" "$2")" --artifact-type application/vnd.example.sbom small:text/plain)"
    contains "$attached" orlop discover "$(reference "$1" "$2")"
    grep -qxF "$attached" <<<"$(digests "$1")"
    all_there "$1" named.before
    whole "$1"
    digest_is "$3" orlop resolve "$(reference "$1" "$2")"
}
# "name digest" of every named entry; an entry that is listed twice counts once.
named() {
    jq -r '.manifests[] | select(.annotations."org.opencontainers.image.ref.name") |
        .annotations."org.opencontainers.image.ref.name" + " " + .digest' "$1/index.json" | sort -u
}
# The names of FILE still stand in the index.json of a layout.
all_there() { named "$1" | all_lines "$2"; }
all_lines() {
    local lost
    lost="$(sort -u | comm -13 - <(sort -u "$1"))"
    [ -z "$lost" ] || { printf 'lost\n%s\n' "$lost"; return 1; }
}

# The store that tools write into while it is one: `ours`, with everything in it that must not get lost.
make_ours() {
    orlop push -q oci:ours:v1 LICENSE large.bin small empty >/dev/null
    orlop tag -q oci:ours:v1 latest >/dev/null
    orlop push -q oci:ours:lib/app:v1 LICENSE >/dev/null
    push_image ours:lib/image:v1
    push_image ours:image
    orlop push -q oci:ours small:text/untagged >/dev/null
    our_sbom="$(orlop attach -q oci:ours:v1 --artifact-type application/vnd.example.sbom small:text/plain)"
    our_signature="$(orlop attach -q "oci:ours@$our_sbom" --artifact-type application/vnd.example.signature LICENSE)"
    note_ours
}
note_ours() {
    named ours | grep -v '^after ' >ours.named
    (cd ours/blobs/sha256 && ls) >ours.blobs
}
# Everything of ours is there as it was, for other tools and for orlop.
kept() {
    all_there ours ours.named
    (cd ours/blobs/sha256 && ls) | all_lines ours.blobs
    whole ours
    local name digest
    while read -r name digest; do
        digest_is "$digest" orlop resolve "oci:ours:$name"
    done <ours.named
    contains "$our_sbom" orlop discover oci:ours:v1
    contains "$our_signature" orlop discover oci:ours:v1
    rm -rf ours.pulled
    orlop pull oci:ours:v1 -o ours.pulled
    cmp large.bin ours.pulled/large.bin
}
# into ROW NAME: the tool has written NAME into `ours`.
into() {
    local row="$1" name="$2" digest
    digest="$(digest_of ours "$name")"
    named ours >ours.now
    # What it has written over is not what it was.
    sed -i "/^${name//\//\\/} /d" ours.named
    cell "into/$row/read" yes digest_is "$digest" orlop resolve "$(reference ours "$name")"
    cell "into/$row/merged" yes merged "$name" "$digest"
    cell "into/$row/kept" yes kept
    cell "into/$row/rebuilt" yes rebuilt
    # What it wrote is now to be kept as well.
    note_ours
}
merged() {
    orlop push -q "oci:ours:after" "LICENSE:text/plain" --annotation "time=$EPOCHREALTIME" 2>note
    [ -s "ours.now" ]
    grep -v '^after ' ours.now >ours.expected
    all_there ours ours.expected
    digest_is "$2" orlop resolve "$(reference ours "$1")"
    case "$1" in @*) ;; *) same "$2" "$(indexed ours "$1")" ;; esac
    # What was taken in is said once, and a second push finds nothing that is new to it.
    orlop push -q "oci:ours:after" "LICENSE:text/plain" 2>note
    refused test -s note
}
# The metadata is derived: what is left without it is what there was.
rebuilt() {
    rm -rf again
    cp -a ours again
    rm -rf again/.orlop
    orlop rebuild oci:again
    same "$(everything ours)" "$(everything again)"
}
everything() { orlop ls --all --format json "oci:$1" | jq -S 'del(.. | .reference?)'; }
# removes ROW NAME: the tool has taken NAME out of `ours`.
removes() {
    local row="$1" name="$2"
    sed -i "/^${name//\//\\/} /d" ours.named
    (cd ours/blobs/sha256 && ls) >ours.blobs
    cell "removes/$row/read" yes refused orlop resolve "oci:ours:$name"
    cell "removes/$row/merged" yes gone "$name"
    cell "removes/$row/kept" yes kept
    note_ours
}
gone() {
    orlop push -q "oci:ours:after" "LICENSE:text/plain" --annotation "time=$EPOCHREALTIME"
    same "" "$(indexed ours "$1")"
    refused orlop resolve "oci:ours:$1"
}
