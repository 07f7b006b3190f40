# shellcheck shell=bash disable=SC2034,SC2154
# acme-proxy with its own authority.
title='acme-proxy, local_ca'
foreign=acme-proxy
processes='one process; Postgres'
settings='signer `local_ca` (P-256), database Postgres as above, `[server.tls]` on, the rest as by default (`jobs.max_concurrent = 8`, log level info)'
two='two instances, one Postgres, the same authority'

version_of() { "$home/acme-proxy" --version | sed 's/^acme-proxy //'; }

# Starts instance $1 that calls itself $2.
acme_proxy() {
    cat >"$run_folder/acme-proxy$1.toml" <<TOML
[database]
url = "postgres://postgres@127.0.0.1/acmeproxy"
[server]
bind_address = "127.0.0.1:900$1"
base_url = "$2"
[server.tls]
enabled = true
cert_path = "$work/tls/server.pem"
key_path = "$work/tls/server.key"
[signer]
backend = "local_ca"
[signer.local_ca]
cert_path = "$run_folder/proxy-ca.pem"
key_path = "$run_folder/proxy-ca.key"
crl_path = "$run_folder/proxy$1.crl"
[dns]
resolver = "127.0.0.1:53"
[profiles.default]
TOML
    if [ "$1" = 1 ]; then
        (cd "$run_folder" && ACME_PROXY_CONFIG="$run_folder/acme-proxy1.toml" "$home/acme-proxy" migrate) >"$run_folder/migrate.log" 2>&1
    fi
    launch "server:acme-proxy$1" env -C "$run_folder" ACME_PROXY_CONFIG="$run_folder/acme-proxy$1.toml" "$home/acme-proxy" serve
    serves "acme-proxy$1" "https://localhost:900$1/profile/default/directory"
}

start() {
    start_postgres || return
    psql_as postgres -c 'CREATE DATABASE acmeproxy'
    acme_proxy 1 https://localhost:9001
}

start_two() {
    start_postgres || return
    psql_as postgres -c 'CREATE DATABASE acmeproxy'
    acme_proxy 1 https://localhost:8443 && acme_proxy 2 https://localhost:8443 || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/profile/default/directory
}
