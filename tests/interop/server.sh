# What `orlop serve` itself is asked in the script registry, after the clients: how it ends and starts again, what it serves,
# and whom. Sourced by it, with a server running on $work/served that holds what the clients have pushed.
# shellcheck shell=bash

# --- what is in the directory
section "the directory behind it"
skopeo_list() { skopeo inspect --raw "oci:served:skopeo/list:v1" | hashed; }
stop
check "skopeo reads the directory as a layout" digest_is "$index" skopeo_list
check "orlop finds it whole" orlop verify oci:served
check "oras pulls from the directory" oras pull --oci-layout-path served oras/files:v1 --output served.pulled
check "it is the same" cmp LICENSE served.pulled/LICENSE
serve "$work/served"
check "what was pushed is served after a restart" digest_is "$subject" oras resolve --plain-http "$registry/oras/files:v1"
check "with what is attached" contains "$signature" oras discover --plain-http --format json "$registry/oras/files:v1"

# --- an upload that outlives the server
section "an upload goes on after a crash"
head -c 6000000 /dev/urandom >upload
upload_digest="$(hashed <upload)"
part() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }
patch() {
    local from="$1" length="$2"
    part upload "$from" "$length" >part
    ask PATCH "$session" -H "Content-Range: $from-$((from + length - 1))" -H 'Content-Type: application/octet-stream' \
        --data-binary @part
}
check "an upload begins" same 202 "$(ask POST /v2/resumed/blobs/uploads/)"
session="$(header location)"
check "a part is taken" same 202 "$(patch 0 1000000)"
check "the answer says how much is there" same 0-999999 "$(header range)"
[ -z "$(header location)" ] || session="$(header location)"
# A part that is still on its way when the server is killed; nothing was acknowledged of it.
part upload 1000000 5000000 >rest
ask PATCH "$session" -H 'Content-Range: 1000000-5999999' -H 'Content-Type: application/octet-stream' \
    --limit-rate 1M --data-binary @rest >/dev/null 2>&1 &
sender=$!
sleep 1
address="$registry"
crash
wait "$sender" 2>/dev/null || true
serve "$work/served" --listen "$address"
check "the session is there after a crash" same 204 "$(ask GET "$session")"
offset="$(($(header range | sed 's/^0-//') + 1))"
acknowledged() { [ "$offset" -ge 1000000 ] && [ "$offset" -lt 6000000 ]; }
check "what was acknowledged is there, the rest is not: $offset" acknowledged
[ -z "$(header location)" ] || session="$(header location)"
check "a part out of order is refused" same 416 "$(ask PATCH "$session" -H 'Content-Range: 10-19' -H 'Content-Type: application/octet-stream' --data-binary 0123456789)"
check "the upload goes on from there" same 202 "$(patch "$offset" 500000)"
[ -z "$(header location)" ] || session="$(header location)"
offset=$((offset + 500000))
part upload "$offset" 6000000 >rest
check "the last part comes with the digest" same 201 "$(ask PUT "$(with_digest "$session" "$upload_digest")" -H "Content-Range: $offset-5999999" -H 'Content-Type: application/octet-stream' --data-binary @rest)"
check "the digest is in the answer" same "$upload_digest" "$(header docker-content-digest)"
check "the blob is there" same 200 "$(ask GET "/v2/resumed/blobs/$upload_digest")"
check "it is the same" cmp upload body
check "the session is not" same 404 "$(ask GET "$session")"
crash
serve "$work/served" --listen "$address"
check "the blob is there after another crash" same 200 "$(ask HEAD "/v2/resumed/blobs/$upload_digest")"
check "so is what was tagged" digest_is "$subject" oras resolve --plain-http "$registry/oras/files:v1"
stop
check "orlop finds the store whole after the crashes" orlop verify oci:served

# --- names
section "names of repositories"
orlop push -q oci:named:v1 small >/dev/null
orlop push -q oci:named:lib/app:v1 small >/dev/null
copy oci:image:v1 oci:named:registry.example:5000/far/app:v1
named="$(indexed named v1)"
serve "$work/named"
check "what has no repository is in one with the name of the directory" digest_is "$named" oras resolve --plain-http "$registry/named:v1"
check "a repository has its name" digest_is "$(indexed named lib/app:v1)" oras resolve --plain-http "$registry/lib/app:v1"
check "a full name loses the host" digest_is "$image" oras resolve --plain-http "$registry/far/app:v1"
stop
serve "$work/named" --as other/name
check "it has the name that is given" digest_is "$named" oras resolve --plain-http "$registry/other/name:v1"
check "a push goes there" push oci:image:v1 "docker://$registry/other/name:pushed"
stop
check "what was pushed has no repository in the layout" same "$image" "$(indexed named pushed)"

# --- read-only
section "--read-only"
before="$(listing named)"
serve "$work/named" --read-only
check "a pull is served" pull "docker://$registry/named:v1" oci:from-read-only:v1
check "a push is refused" refused push oci:image:v1 "docker://$registry/named:v2"
check "a delete is refused" refused oras manifest delete --plain-http --force "$registry/named:v1"
check "the upload is refused, not the server broken" contains 405 ask POST /v2/named/blobs/uploads/
stop
check "the directory is as it was" same "$before" "$(listing named)"

# --- TLS
section "TLS"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=orlop.example \
    -addext "subjectAltName=IP:127.0.0.1" -keyout tls.key -out tls.crt 2>/dev/null
mkdir certs
cp tls.crt certs/ca.crt
serve "$work/served" --tls-cert "$work/tls.crt" --tls-key "$work/tls.key"
scheme=https
check "curl trusts the certificate" same 200 "$(ask GET /v2/ --cacert tls.crt)"
check "curl does not without it" refused ask GET /v2/
scheme=http
check "HTTP without TLS gets nothing" refused contains '{}' curl -sS --max-time 5 "http://$registry/v2/"
check "skopeo pushes" copy --all --dest-cert-dir certs oci:index:v1 "docker://$registry/tls/list:v1"
check "skopeo refuses an unknown certificate" refused copy --all oci:index:v1 "docker://$registry/tls/list:v1"
check "skopeo pulls" copy --all --src-cert-dir certs "docker://$registry/tls/list:v1" oci:tls.list:v1
check "oras pulls" oras pull --ca-file tls.crt "$registry/oras/files:v1" --output tls.pulled
check "crane pulls" env SSL_CERT_FILE="$work/tls.crt" crane digest "$registry/tls/list:v1"
stop
bad_key() {
    local status=0
    timeout 10 "$ORLOP" serve "oci:$work/served" --listen 127.0.0.1:0 --tls-cert tls.crt --tls-key LICENSE 2>message || status=$?
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && grep LICENSE message
}
check "a key that is none is refused, and named" bad_key

# --- who may do what
section "passwords and rights"
htpasswd -Bbc passwords reader secret-r 2>/dev/null
htpasswd -Bb passwords writer secret-w 2>/dev/null
htpasswd -Bb passwords owner secret-o 2>/dev/null
rights_file >rights
serve "$work/served" --htpasswd "$work/passwords" --rights "$work/rights"
as() { echo "--$1-creds=$2:secret-${2:0:1}"; }
check "without a name the version is refused" same 401 "$(ask GET /v2/)"
check "a name is asked for" contains Basic header www-authenticate
check "a wrong password is refused" same 401 "$(ask GET /v2/ -u reader:wrong)"
check "an unknown name is refused" same 401 "$(ask GET /v2/ -u nobody:secret-r)"
check "a right one is taken" same 200 "$(ask GET /v2/ -u reader:secret-r)"
# What skopeo, podman and buildah send where a name was asked for and they have none.
check "an empty name is nobody's" same 401 "$(ask GET /v2/ -u :)"
check "a reader pulls" pull "$(as src reader)" "docker://$registry/tls/list:v1" oci:reader:v1
check "a reader does not push" refused push "$(as dest reader)" oci:image:v1 "docker://$registry/lib/image:v1"
check "a writer pushes" push "$(as dest writer)" oci:image:v1 "docker://$registry/lib/image:v1"
check "a writer does not push elsewhere" refused push "$(as dest writer)" oci:image:v1 "docker://$registry/tls/image:v1"
check "a writer does not delete" refused skopeo delete --tls-verify=false --creds writer:secret-w "docker://$registry/lib/image:v1"
check "nobody without a name reads it" refused inspect --raw "docker://$registry/lib/image:v1"
check "an owner pushes what all may read" push "$(as dest owner)" oci:image:v1 "docker://$registry/public/image:v1"
check "all read it, with an empty name" same 200 "$(ask GET /v2/public/image/manifests/v1 -u :)"
check "all read it with skopeo" inspect --raw "docker://$registry/public/image:v1"
check "all read it with oras" oras resolve --plain-http "$registry/public/image:v1"
check "all read it with crane" crane digest "$registry/public/image:v1"
check "all read it with regctl" regctl manifest head "$registry/public/image:v1"
check "all do not push it" refused push oci:image:v1 "docker://$registry/public/image:v2"
check "a mount does not show what its asker may not read" same 202 "$(ask POST "/v2/lib/mounted/blobs/uploads/?mount=$upload_digest&from=resumed" -u writer:secret-w)"
check "nor does one without a source" same 202 "$(ask POST "/v2/lib/mounted/blobs/uploads/?mount=$upload_digest" -u writer:secret-w)"
check "the catalog lists what its asker may read" contains public/image ask_body GET /v2/_catalog
check "and nothing else" refused contains lib/image ask_body GET /v2/_catalog
check "oras logs in" oras login --plain-http -u owner -p secret-o "$registry"
check "and pulls then" oras pull --plain-http "$registry/oras/files:v1" --output login.pulled
check "an owner deletes" skopeo delete --tls-verify=false --creds owner:secret-o "docker://$registry/lib/image:v1"
check "it is gone" refused inspect --creds owner:secret-o --raw "docker://$registry/lib/image:v1"
stop
