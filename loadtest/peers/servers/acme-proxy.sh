# shellcheck shell=bash disable=SC2034,SC2154
# acme-proxy with its own authority.
title='acme-proxy, SQLite'
foreign=acme-proxy
processes='one process'
settings='signer `local_ca` (P-256), SQLite (WAL, `synchronous` as SQLite has it: full), `[server.tls]` on, the rest as by default (`jobs.max_concurrent = 8`, log level info)'
two='two instances, one Postgres, the same authority'

version_of() { "$home/acme-proxy" --version | sed 's/^acme-proxy //'; }

# Starts instance $1 that calls itself $2 and keeps its data at the URL $3.
acme_proxy() {
    cat >"$run_folder/acme-proxy$1.toml" <<TOML
[database]
url = "$3"
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
    if [ "$1" = 1 ] && [[ $3 == postgres:* ]]; then
        (cd "$run_folder" && ACME_PROXY_CONFIG="$run_folder/acme-proxy1.toml" "$home/acme-proxy" migrate) >"$run_folder/migrate.log" 2>&1
    fi
    launch "server:acme-proxy$1" env -C "$run_folder" ACME_PROXY_CONFIG="$run_folder/acme-proxy$1.toml" "$home/acme-proxy" serve
    serves "acme-proxy$1" "https://localhost:900$1/profile/default/directory"
}

start() { acme_proxy 1 https://localhost:9001 "sqlite://$run_folder/acme-proxy.db"; }

start_two() {
    local database=postgres://postgres@127.0.0.1/acmeproxy
    start_postgres || return
    psql_as postgres -c 'CREATE DATABASE acmeproxy'
    acme_proxy 1 https://localhost:8443 "$database" && acme_proxy 2 https://localhost:8443 "$database" || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/profile/default/directory
}
