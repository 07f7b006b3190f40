# shellcheck shell=bash disable=SC2034,SC2154
# Pebble, which says of itself that it is for tests only and keeps everything in memory.
title='Pebble'
foreign=pebble
processes='one process, nothing durable'
settings='`PEBBLE_VA_NOSLEEP=1`, `PEBBLE_WFE_NONCEREJECT=0`, `PEBBLE_AUTHZREUSE=0`, key algorithm `ecdsa`, otherwise its example configuration; memory only: a test server'
two='two instances; there is nothing to share'

version_of() { of_go_module "$home/pebble"; }

# Starts instance $1.
pebble() {
    cat >"$run_folder/pebble$1.json" <<JSON
{"pebble": {
  "listenAddress": "127.0.0.1:900$1", "managementListenAddress": "127.0.0.1:910$1",
  "certificate": "$work/tls/server.pem", "privateKey": "$work/tls/server.key", "httpPort": 80, "tlsPort": 443,
  "ocspResponderURL": "", "externalAccountBindingRequired": false, "retryAfter": {"authz": 3, "order": 5},
  "keyAlgorithm": "ecdsa", "profiles": {"default": {"description": "the default", "validityPeriod": 7776000}}
}}
JSON
    launch "server:pebble$1" env PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 PEBBLE_AUTHZREUSE=0 \
        "$home/pebble" -config "$run_folder/pebble$1.json" -dnsserver 127.0.0.1:53
    serves "pebble$1" "https://localhost:900$1/dir"
}

start() { pebble 1; }

start_two() {
    pebble 1 && pebble 2 || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/dir
}
