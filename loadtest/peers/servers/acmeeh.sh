# shellcheck shell=bash disable=SC2034,SC2154
# acmeeh with its internal authority.
title='acmeeh, internal CA'
foreign=acmeeh
processes='gunicorn with four workers; Postgres; HAProxy for TLS'
settings='four workers (2 × cores) of class `sync`, `max_requests: 1000`, rate limits off, loopback taken out of `blocked_networks`, serials `database`, Postgres as above'
two='two instances of four workers, one Postgres, the same authority'

version_of() { "$home/bin/python" -c 'from importlib.metadata import version; print(version("acmeeh"))'; }

# Starts instance $1.
acmeeh() {
    cat >"$run_folder/acmeeh$1.yaml" <<YAML
server:
  external_url: https://localhost:8443
  bind: 127.0.0.1
  port: 900$1
  workers: 4
  worker_class: sync
  max_requests: 1000
  max_requests_jitter: 50
proxy:
  enabled: true
  trusted_proxies: [127.0.0.0/8]
database:
  host: 127.0.0.1
  port: 5432
  database: acmeeh
  user: postgres
  password: none
  sslmode: disable
  auto_setup: true
ca:
  backend: internal
  internal:
    root_cert_path: $work/tls/root.pem
    root_key_path: $work/tls/root.key
challenges:
  enabled: [http-01]
  http01:
    port: 80
    blocked_networks: [169.254.0.0/16]
security:
  rate_limits:
${rate_limits:-    enabled: false}
dns:
  resolvers: [127.0.0.1]
logging:
  audit:
    enabled: true
    file: $run_folder/acmeeh$1-audit.log
YAML
    launch "server:acmeeh$1" "$home/bin/python" -m acmeeh -c "$run_folder/acmeeh$1.yaml"
    await "acmeeh$1" fetches "http://localhost:900$1/readyz"
}

start() {
    start_postgres || return
    psql_as postgres -c 'CREATE DATABASE acmeeh'
    acmeeh 1 || return
    start_haproxy plain 127.0.0.1:9001
    serves haproxy https://localhost:8443/directory
}

start_two() {
    start_postgres || return
    psql_as postgres -c 'CREATE DATABASE acmeeh'
    acmeeh 1 && acmeeh 2 || return
    start_haproxy plain 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/directory
}

start_limited() {
    local rate_limits="    enabled: true
    backend: database
    new_nonce: {requests: 100000, window_seconds: 60}
    challenge: {requests: 100000, window_seconds: 60}
    challenge_validation: {requests: 100000, window_seconds: 60}
    new_order: {requests: $1, window_seconds: 3600}"
    start_two
}
