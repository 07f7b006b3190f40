# shellcheck shell=bash disable=SC2034,SC2154
# step-ca as its makers would have it where there is more than one instance.
. "$here/servers/common/step-ca.sh"
title='step-ca, Postgres'
processes='one process; Postgres'
settings='database `postgresql`; Postgres and the rest as above'
two='two instances, the same `ca.json`, one Postgres'
database='{"type": "postgresql", "dataSource": "postgresql://postgres@127.0.0.1:5432/", "database": "stepca"}'

start() {
    start_postgres || return
    step_ca 1 "$database"
    serves step-ca1 https://localhost:9001/acme/acme/directory
}

start_two() {
    start || return
    step_ca 2 "$database"
    serves step-ca2 https://localhost:9002/acme/acme/directory || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/acme/acme/directory
}
