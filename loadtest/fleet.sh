#!/usr/bin/env bash
# Starts a fleet on loopback (Postgres, Redis, three replicas of `chancery serve`, one CA), puts the load generator's
# load on it, and prints what one issuance cost the databases. Everything it started ends with it, by process id.
#
#   loadtest/fleet.sh run --challenge http-01 --concurrency 32 --duration 60 …
#   loadtest/fleet.sh nonces --connections 32 --duration 20 …          (one replica)
#   loadtest/fleet.sh unsigned                                         (loadtest/unsigned, by vegeta)
#
# --server, --account-for and the responders' addresses are filled in; give everything else. Variables:
#   CHANCERY, LOADTEST   the binaries (default: target/release of this workspace)
#   REPLICAS             how many (3)
#   PG_BIN               Postgres's programs (/usr/lib/postgresql/15/bin)
#   KEEP=1               leave the folder with logs and data behind, and say where it is
#   CHANCERY_*           reach the replicas as they are
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
CHANCERY=${CHANCERY:-$root/target/release/chancery}
LOADTEST=${LOADTEST:-$root/target/release/chancery-loadtest}
REPLICAS=${REPLICAS:-3}
PG_BIN=${PG_BIN:-/usr/lib/postgresql/15/bin}

if [ $# -eq 0 ]; then
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0"
    exit 2
fi
if [ "$1" = unsigned ]; then
    LOADTEST=$root/loadtest/unsigned
    "$root/tests/foreign/build" vegeta >/dev/null
fi
for program in "$CHANCERY" "$LOADTEST" "$PG_BIN/postgres"; do
    [ -x "$program" ] || { echo "fleet.sh: $program is missing" >&2; exit 2; }
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/chancery-fleet.XXXXXX")
chmod 755 "$folder"
pids=()

finish() {
    local status=$? index
    trap - EXIT
    # Last started, first ended: replicas before what they depend on, so that Postgres has no client to wait for.
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        kill -TERM "${pids[index]}" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "${pids[index]}" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "${pids[index]}" 2>/dev/null || true
        wait "${pids[index]}" 2>/dev/null || true
    done
    if [ -n "${KEEP:-}" ]; then
        echo "kept: $folder"
    else
        rm -rf "$folder"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# $1 ports that nobody listens on, all different, below the range from which the kernel takes ports for clients.
free_ports() {
    local first=$((10000 + RANDOM % 15000)) port found=()
    for ((port = first; ${#found[@]} < $1 && port < 32000; port++)); do
        if ! ss -Hltun "sport = :$port" | grep -q .; then
            found+=("$port")
        fi
    done
    echo "${found[@]}"
}

# Waits until the command succeeds: $1 what is waited for, $2 the process that must live on, then the command.
await() {
    local what=$1 pid=$2
    shift 2
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "fleet.sh: $what did not start; its log ends:" >&2
    tail -n 20 "$folder/$what.log" >&2 || true
    exit 2
}

# Whether the replica at port $1 gives its directory; enough of HTTP to need no client program.
answers() {
    local line
    exec 9<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET /directory HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$1" >&9
    IFS= read -r -t 5 line <&9
    exec 9>&-
    [[ $line == *" 200 "* ]]
}

read -r -a ports <<<"$(free_ports $((5 + 2 * REPLICAS)))"
pg_port=${ports[0]} redis_port=${ports[1]} http01=${ports[2]} tlsalpn=${ports[3]} dns=${ports[4]}

as_postgres=()
if [ "$(id -u)" = 0 ]; then
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
install -d -m 700 "$folder/pg"
if [ "$(id -u)" = 0 ]; then
    chown postgres: "$folder/pg"
fi
(cd "$folder/pg" && "${as_postgres[@]}" "$PG_BIN/initdb" -D "$folder/pg/data" -U chancery -A trust -E UTF8 --locale=C >/dev/null)
(
    cd "$folder/pg"
    exec "${as_postgres[@]}" "$PG_BIN/postgres" -D "$folder/pg/data" -p "$pg_port" -k "$folder/pg" \
        -c listen_addresses=127.0.0.1 -c shared_preload_libraries=pg_stat_statements -c max_connections=200 \
        -c shared_buffers=256MB -c max_wal_size=2GB ${PG_OPTIONS:-}
) >"$folder/postgres.log" 2>&1 &
pg=$!
pids+=("$pg")

redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no >"$folder/redis.log" 2>&1 &
redis=$!
pids+=("$redis")

psql() { "$PG_BIN/psql" -h 127.0.0.1 -p "$pg_port" -U chancery -d "${DATABASE:-chancery}" -XAtq "$@"; }
await postgres "$pg" env DATABASE=postgres "$PG_BIN/pg_isready" -h 127.0.0.1 -p "$pg_port"
await redis "$redis" redis-cli -h 127.0.0.1 -p "$redis_port" ping
DATABASE=postgres psql -c 'CREATE DATABASE chancery'
psql -c 'CREATE EXTENSION pg_stat_statements'

mkdir "$folder/ca"
"$CHANCERY" ca init --data-dir "$folder/ca" >"$folder/ca.log" 2>&1

# One account places all orders, from one address: without limits unless the caller sets them.
for limit in NEW_ORDERS_PER_HOUR ACTIVE_ORDERS KEY_CHANGES_PER_HOUR CHALLENGE_RESPONSES_PER_HOUR NEW_ACCOUNTS_PER_HOUR \
    FAILED_VALIDATIONS_PER_HOUR DUPLICATE_CERTIFICATES_PER_DAY VALIDATIONS_PER_HOUR; do
    declare -x "CHANCERY_LIMITS_$limit=$(printenv "CHANCERY_LIMITS_$limit" || echo 0)"
done

servers=() accounted=("postgres=$pg" "redis=$redis")
external=http://127.0.0.1:${ports[5]}
for ((n = 0; n < REPLICAS; n++)); do
    port=${ports[5 + 2 * n]}
    mkdir "$folder/replica$n"
    env CHANCERY_LISTEN="127.0.0.1:$port" CHANCERY_OPS_LISTEN="127.0.0.1:${ports[6 + 2 * n]}" \
        CHANCERY_EXTERNAL_URL="$external" CHANCERY_TLS_MODE=off CHANCERY_DATA_DIR="$folder/replica$n" \
        CHANCERY_DATABASE_URL="postgres://chancery@127.0.0.1:$pg_port/chancery" \
        CHANCERY_REDIS_URL="redis://127.0.0.1:$redis_port" \
        CHANCERY_CA_CERT="$folder/ca/issuing.pem" CHANCERY_CA_KEY="$folder/ca/issuing.key" \
        CHANCERY_VALIDATION_HTTP01_PORT="$http01" CHANCERY_VALIDATION_TLSALPN01_PORT="$tlsalpn" \
        CHANCERY_VALIDATION_DNS_SERVERS="127.0.0.1:$dns" CHANCERY_VALIDATION_ALLOW_NETWORKS=127.0.0.0/8 \
        "$CHANCERY" serve >"$folder/replica$n.log" 2>&1 &
    replica=$!
    pids+=("$replica")
    accounted+=("replica$n=$replica")
    servers+=("http://127.0.0.1:$port/directory")
    # One after the other, so that the first alone brings the schema up to date.
    await "replica$n" "$replica" answers "$port"
done

join() { local IFS=,; echo "$*"; }
fixed=(--account-for "$(join "${accounted[@]}")")
if [ "$1" = nonces ]; then
    fixed+=(--server "${servers[0]}")
else
    fixed+=(--server "$(join "${servers[@]}")" --http01-listen "127.0.0.1:$http01"
        --tlsalpn-listen "127.0.0.1:$tlsalpn" --dns-listen "127.0.0.1:$dns")
fi
psql -c 'SELECT pg_stat_statements_reset()' >/dev/null
redis-cli -h 127.0.0.1 -p "$redis_port" config resetstat >/dev/null
commits="SELECT xact_commit FROM pg_stat_database WHERE datname = 'chancery'"
before=$(psql -c "$commits")

status=0
if [ "$1" = unsigned ]; then
    "$LOADTEST" "${servers[@]}" || status=$?
else
    "$LOADTEST" "$@" "${fixed[@]}" || status=$?
fi

# Counts of the databases are over the whole run, warm-up included, so they are divided by all certificates ever made.
if [ "$1" = run ]; then
    sleep 1.5 # Postgres's backends hand their counts in once a second.
    after=$(psql -c "$commits")
    issued=$(psql -c "${ISSUED_SQL:-SELECT count(*) FROM certificates}" 2>/dev/null || echo 0)
    if [ "${issued:-0}" -gt 0 ]; then
        echo "Postgres: $issued certificates, $(awk "BEGIN { printf \"%.2f\", ($after - $before) / $issued }") commits each"
        echo "  calls each   mean ms    rows each   statement"
        psql -F ' ' -c "
            SELECT to_char(calls::numeric / $issued, '999990.000'), to_char(mean_exec_time, '99990.0000'),
                   to_char(rows::numeric / $issued, '999990.000'), left(regexp_replace(query, '\s+', ' ', 'g'), 110)
            FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'chancery')
            ORDER BY calls DESC LIMIT 40"
        psql -c "
            SELECT 'all statements but BEGIN, COMMIT, SET: ' || round(sum(calls)::numeric / $issued, 2) || ' each'
            FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'chancery')
            AND query !~* '^\s*(begin|start|commit|rollback|set|show|deallocate)'"
        echo "Redis: calls each, µs a call, command"
        redis-cli -h 127.0.0.1 -p "$redis_port" info commandstats | tr -d '\r' |
            awk -F'[_:=,]' -v issued="$issued" '/^cmdstat/ { split($0, a, ":"); split(a[2], f, ",");
                split(f[1], c, "="); split(f[3], u, "="); sub(/^cmdstat_/, "", a[1]);
                printf "  %10.3f %8.2f   %s\n", c[2] / issued, u[2], a[1] }' | sort -rn
    else
        echo "no certificates found (set ISSUED_SQL if their table has another name)"
    fi
fi
exit "$status"
