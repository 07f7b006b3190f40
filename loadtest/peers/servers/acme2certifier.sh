# shellcheck shell=bash disable=SC2034,SC2154
# acme2certifier with its openssl handler, on Django and Postgres, which its documentation wants where requests come at
# the same time.
title='acme2certifier, openssl_ca_handler'
foreign=acme2certifier
processes='gunicorn with five workers (as many as its uWSGI example); Postgres; HAProxy for TLS'
settings='Django handler on Postgres, `async_mode` on, `contact_check_disable` (the load gives no contacts), Postgres as above'
two='two instances of five workers, one Postgres, the same authority'

version_of() { "$home/bin/python" -c 'from importlib.metadata import version; print(version("acme2certifier"))'; }

# Becomes a command of instance $1.
of_acme2certifier() {
    local folder=$run_folder/a2c$1
    shift
    exec env -C "$folder" ACME2CERTIFIER_BASE_DIR="$folder" ACME_SRV_CONFIGFILE="$folder/acme_srv.cfg" \
        ACME2CERTIFIER_SECRET_KEY=comparison-of-servers-on-loopback-with-nothing-to-hide \
        ACME2CERTIFIER_ALLOWED_HOSTS=localhost,127.0.0.1 \
        ACME2CERTIFIER_DATABASE_URL=postgres://postgres@127.0.0.1:5432/a2c "$@"
}

# Makes the folder of instance $1.
lay_out() {
    mkdir -p "$run_folder/a2c$1" "$run_folder/a2c-certs"
    cat >"$run_folder/a2c$1/acme_srv.cfg" <<CFG
[DEFAULT]
debug: False
async_mode: True
server_name: localhost
dns_server_list: ["127.0.0.1"]

[Account]
contact_check_disable: True

[DBhandler]
handler: django

[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: $work/tls/issuing.key
issuing_ca_cert: $work/tls/issuing.pem
issuing_ca_crl: $run_folder/a2c-crl.pem
ca_cert_chain_list: ["$work/tls/root.pem"]
cert_validity_days: 30
cert_save_path: $run_folder/a2c-certs
save_cert_as_hex: True

[Challenge]
challenge_validation_disable: False
CFG
}

# Starts instance $1.
acme2certifier() {
    lay_out "$1"
    if [ "$1" = 1 ]; then
        psql_as postgres -c 'CREATE DATABASE a2c'
        {
            (of_acme2certifier 1 "$home/bin/python" -m acme2certifier.tools.a2c_manage migrate) &&
                (of_acme2certifier 1 "$home/bin/python" -m acme2certifier.tools.a2c_schema_update --mode django)
        } >"$run_folder/migrate.log" 2>&1 || {
            tail -n 5 "$run_folder/migrate.log" >&2
            return 1
        }
    fi
    launch "server:acme2certifier$1" of_acme2certifier "$1" "$home/bin/python" -m gunicorn --workers 5 \
        --bind "127.0.0.1:900$1" acme2certifier.django_project.wsgi:application
    await "acme2certifier$1" fetches "http://localhost:900$1/directory"
}

start() {
    start_postgres && acme2certifier 1 || return
    start_haproxy plain 127.0.0.1:9001
    serves haproxy https://localhost:8443/directory
}

start_two() {
    start_postgres && acme2certifier 1 && acme2certifier 2 || return
    start_haproxy plain 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/directory
}
