# shellcheck shell=bash disable=SC2034,SC2154
# How replicas of Chancery are started for the comparison.

version_of() { "$CHANCERY" --version | sed 's/^chancery //'; }

# Starts the replica $1; the rest are further settings. They listen at 9001, 9002, …
replica() {
    local number=$1 folder=$run_folder/replica$1 limits=() limit
    shift
    mkdir "$folder"
    # One load from one address: the limits are not what is compared.
    for limit in NEW_ORDERS_PER_HOUR ACTIVE_ORDERS KEY_CHANGES_PER_HOUR CHALLENGE_RESPONSES_PER_HOUR \
        NEW_ACCOUNTS_PER_HOUR FAILED_VALIDATIONS_PER_HOUR DUPLICATE_CERTIFICATES_PER_DAY VALIDATIONS_PER_HOUR; do
        limits+=("CHANCERY_LIMITS_$limit=0")
    done
    limits[0]=CHANCERY_LIMITS_NEW_ORDERS_PER_HOUR=${order_limit:-0}
    launch "server:replica$number" env "${limits[@]}" CHANCERY_LISTEN="127.0.0.1:900$number" \
        CHANCERY_OPS_LISTEN="127.0.0.1:910$number" CHANCERY_CA_LISTEN=off CHANCERY_EXTERNAL_URL="${external:-https://localhost:9001}" \
        CHANCERY_DATA_DIR="$folder" CHANCERY_TLS_MODE=files CHANCERY_TLS_CERT="$work/tls/server.pem" \
        CHANCERY_TLS_KEY="$work/tls/server.key" CHANCERY_VALIDATION_DNS_SERVERS=127.0.0.1:53 \
        CHANCERY_VALIDATION_ALLOW_NETWORKS=127.0.0.0/8 CHANCERY_SHUTDOWN_DELAY=0s "$@" "$CHANCERY" serve
    serves "replica$number" "https://localhost:900$number/directory"
}

# The same with the stores of a fleet.
fleet_replica() {
    local number=$1
    shift
    replica "$number" CHANCERY_DATABASE_URL=postgres://postgres@127.0.0.1/chancery \
        CHANCERY_REDIS_URL=redis://127.0.0.1:6379 CHANCERY_CA_CERT="$run_folder/ca/issuing.pem" \
        CHANCERY_CA_KEY="$run_folder/ca/issuing.key" "$@"
}

# Postgres, Redis and an authority for a fleet.
start_stores() {
    start_postgres && start_redis || return
    psql_as postgres -c 'CREATE DATABASE chancery'
    mkdir "$run_folder/ca"
    "$CHANCERY" ca init --data-dir "$run_folder/ca" >"$run_folder/ca.log" 2>&1
}
