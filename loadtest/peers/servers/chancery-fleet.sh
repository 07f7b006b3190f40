# shellcheck shell=bash disable=SC2034,SC2154
# Three replicas, each request to another.
. "$here/servers/common/chancery.sh"
title='Chancery, three replicas on Postgres and Redis'
processes='three processes; Postgres, Redis'
settings='as above; each request of a flow goes to the next replica'
two=''

start() {
    start_stores && fleet_replica 1 && fleet_replica 2 && fleet_replica 3
}
