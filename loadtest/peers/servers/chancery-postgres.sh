# shellcheck shell=bash disable=SC2034,SC2154
# One replica with the stores of a fleet.
. "$here/servers/common/chancery.sh"
title='Chancery, one replica on Postgres and Redis'
processes='one process; Postgres, Redis'
settings='Postgres as it is by itself (`fsync` and `synchronous_commit` on), 8 connections; Redis without a file; otherwise as above'
two='two replicas, one Postgres, one Redis'

start() {
    start_stores && fleet_replica 1
}

start_two() {
    local external=https://localhost:8443
    start_stores && fleet_replica 1 && fleet_replica 2 || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/directory
}

start_limited() {
    local order_limit=$1
    start_two
}
