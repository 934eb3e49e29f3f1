#!/bin/sh
# Looks at the program that build-static.sh made: it needs no library, is small enough, and runs
# in a root of its own with nothing beside it but authorities, where it finds hosts by name.
#
#   deploy/image/check-static.sh [TARGET]
set -eu
program="target/${1:-x86_64-unknown-linux-gnu}/image/stornx"
limit=25000000

fail() {
    echo "image: $*" >&2
    exit 1
}

if LC_ALL=C readelf --program-headers "$program" | grep -q INTERP; then
    fail "$program asks for a loader"
fi
LC_ALL=C readelf --dynamic "$program" | grep NEEDED && fail "$program needs libraries"

whole=$(wc -c < "$program")
packed=$(gzip --best --stdout "$program" | wc -c)
echo "image: $whole bytes, $packed compressed, of $limit allowed"
[ "$packed" -lt "$limit" ] || fail "too large"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$program" "$root/stornx"
echo "127.0.0.1 api.test" > "$root/etc/hosts"
cat > "$root/kubeconfig" <<'END'
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "https://api.test:9"}}]
users: [{name: a, user: {token: a}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
END
chmod -R a+rX,a-w "$root"

# A user namespace is what an unprivileged user needs to change his root; uid 0 in it is himself.
inside() {
    timeout 60 env -i ENV=development KUBECONFIG=/kubeconfig \
        unshare --user --map-root-user --root="$root" --wd=/ /stornx "$@"
}

inside config -o env | grep -q '^APP_PORT=3000$' || fail "it does not run in a root of its own"
said=$(inside plan 2>&1) && fail "it found a cluster where none is"
case "$said" in
    *"onnection refused"*) ;;
    *) fail "it does not find a host by name: $said" ;;
esac
echo "image: runs in a root of its own and finds hosts by name"
