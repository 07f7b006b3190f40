# shellcheck shell=bash disable=SC2034,SC2154
# step-ca with the store that it has by default.
. "$here/servers/common/step-ca.sh"
title='step-ca, Badger'
processes='one process'
settings='database `badgerv2` (writes synced by default), one ACME provisioner, logger `text`, intermediate P-256'
two=''

start() {
    step_ca 1 "{\"type\": \"badgerv2\", \"dataSource\": \"$run_folder/db\"}"
    serves step-ca1 https://localhost:9001/acme/acme/directory
}
