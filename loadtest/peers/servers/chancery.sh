# shellcheck shell=bash disable=SC2034,SC2154
# Chancery as `chancery serve` runs it by itself: one process with SQLite.
. "$here/servers/common/chancery.sh"
title='Chancery, SQLite'
processes='one process'
settings='SQLite with `synchronous = FULL`, its own authority (P-256), limits off, CAA checked'
two=''

start() {
    replica 1
}
