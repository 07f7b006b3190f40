# What the servers of peers/run stand on: certificates, name server, Postgres, Redis, HAProxy, and how processes are
# started, accounted for and ended. Read by run; every file of servers/ is read into the same shell, and
#
#   sets       title, version, processes, settings, two (how two instances are started; empty if not at all), and
#              foreign (the program of tests/foreign that it needs; empty if none)
#   defines    version_of, start, which starts one server as its makers would have it, start_two, and, where it has
#              limits, start_limited, which starts two that let an account place $1 orders an hour
#
# They fill `directories` (URLs for the generator) by calling `serves`.
# shellcheck shell=bash disable=SC2034

set_the_stage() {
    ip link set lo up
    work=$(mktemp -d "${TMPDIR:-/tmp}/chancery-peers.XXXXXX")
    chmod 755 "$work"
    trap 'rm -rf "${work:?}"' EXIT
    trap 'exit 130' INT TERM
    echo 'nameserver 127.0.0.1' >"$work/resolv.conf"
    mount --bind "$work/resolv.conf" "$(readlink -f /etc/resolv.conf)"
    make_certificates "$work/tls"
    install -d -o postgres -g postgres -m 700 "$work/pg"
    (cd "$work/pg" && as_postgres "$PG_BIN/initdb" -D "$work/pg/template" -U postgres -A trust -E UTF8 --locale=C >/dev/null)
    trusted=$work/tls/root.pem
}

# A root, an issuing authority and a server certificate for localhost, all P-256, in folder $1.
make_certificates() {
    mkdir "$1"
    (
        cd "$1"
        key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }
        signed() {
            openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr" 2>/dev/null
            printf '%s\n' "$3" >"$1.ext"
            openssl x509 -req -in "$1.csr" -CA root.pem -CAkey root.key -CAcreateserial -days 365 -extfile "$1.ext" \
                -out "$1.pem" 2>/dev/null
        }
        key root
        openssl req -new -x509 -key root.key -subj '/CN=Comparison Root' -days 3650 -out root.pem \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
        key issuing
        signed issuing 'Comparison Issuing' $'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'
        key server
        signed server localhost $'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid'
        cat server.pem server.key >haproxy.pem
    )
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

join() {
    local IFS=,
    echo "$*"
}

# The arguments as JSON strings.
quoted() {
    local text list=()
    for text in "$@"; do
        text=${text//\\/\\\\}
        text=${text//\"/\\\"}
        list+=("\"${text//$'\n'/ }\"")
    done
    join "${list[@]}"
}

machine() {
    local model
    model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    echo "$(nproc) cores (${model:-unknown processor}), $(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB, Linux $(uname -r | cut -d. -f1,2)"
}

# The version of the module that the Go program $1 was built from.
of_go_module() { go version -m "$1" | awk '$1 == "mod" { sub(/^v/, "", $3); print $3 }'; }

# Reads the file of the server $1.
load() {
    title='' version='' processes='' settings='' two='' foreign='' home=''
    unset -f start start_two start_limited version_of
    # shellcheck source=/dev/null
    . "$here/servers/$1.sh"
    [ -z "$foreign" ] || home=$("$root/tests/foreign/build" --where "$foreign")
}

# Writes what is known of the server $1 to the file $2; fails where its program was not built.
describe() {
    local absent=null
    load "$1"
    if [ -n "$foreign" ] && [ ! -d "$home" ]; then
        absent=$(quoted "it could not be built: $(tail -n 1 "$results/builds/$foreign")")
    else
        version=$(version_of)
    fi
    printf '{"title": %s, "version": %s, "processes": %s, "settings": %s, "two": %s, "absent": %s}\n' \
        "$(quoted "$title")" "$(quoted "$version")" "$(quoted "$processes")" "$(quoted "$settings")" "$(quoted "$two")" \
        "$absent" >"$2"
    [ "$absent" = null ]
}

# Starts the server $1 by the function $2, calls $3 with its name, and ends everything that was started.
with() {
    load "$1"
    pids=() accounted=() directories=()
    run_folder=$work/run
    mkdir "$run_folder"
    if "$2"; then
        "$3" "$1"
    else
        echo "$1 did not start" >&2
    fi
    finish
}

# The process $1 and all that descend from it.
tree_of() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1" || true); do
        tree_of "$child"
    done
}

# Ends the process that was started last, with its descendants.
end_last() {
    local pid=${pids[-1]} tree
    unset 'pids[-1]' 'accounted[-1]'
    mapfile -t tree < <(tree_of "$pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "${tree[@]}" 2>/dev/null || break
        sleep 0.1
    done
    # What did not end by itself: a deadlocked server, workers without their master.
    kill -KILL "${tree[@]}" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# Ends what was started, the last first: servers before what they depend on.
finish() {
    while [ ${#pids[@]} -gt 0 ]; do
        end_last
    done
    if [ -n "${KEEP_LOGS:-}" ]; then
        mkdir -p "$KEEP_LOGS"
        cp "$run_folder"/*.log "$KEEP_LOGS/" 2>/dev/null || true
    fi
    rm -rf "${run_folder:?}" "$work/pg/data"
}

# Starts a process that counts for the server: $1 is `server:NAME`, `store:NAME` or `proxy:NAME`, the rest its command
# (a function must end in `exec`, so that the process is the server and not a shell before it).
launch() {
    local name=$1
    shift
    "$@" >"$run_folder/${name#*:}.log" 2>&1 </dev/null &
    pids+=($!)
    accounted+=("$name=$!")
}

# Waits until the command succeeds while the process started last lives: $1 is what is waited for.
await() {
    local what=$1 pid=${pids[-1]}
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "$what did not start; its log ends:" >&2
    tail -n 8 "$run_folder/$what.log" >&2 || true
    return 1
}

fetches() { curl -fsS --max-time 5 --cacert "$trusted" "$1"; }

# Waits until the directory at the URL $2 is served by the process $1 that was started last, and has the load go there.
serves() {
    await "$1" fetches "$2" || return
    directories+=("$2")
}

# A new Postgres at port 5432, as durable as it is by itself.
start_postgres() {
    cp -a "$work/pg/template" "$work/pg/data"
    launch store:postgres setpriv --reuid=postgres --regid=postgres --init-groups "$PG_BIN/postgres" -D "$work/pg/data" \
        -k "$work/pg" -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=256MB -c max_wal_size=2GB
    await postgres psql_as postgres -c 'SELECT 1' || return
}

psql_as() {
    local database=$1
    shift
    "$PG_BIN/psql" -h 127.0.0.1 -U postgres -d "$database" -XAtq "$@"
}

start_redis() {
    launch store:redis redis-server --port 6379 --bind 127.0.0.1 --dir "$run_folder" --save '' --appendonly no
    await redis redis-cli -h 127.0.0.1 ping
}

# A balancer at port 8443 that ends TLS and deals requests to the given addresses in turn; $1 is `tls` where these
# speak TLS themselves, else `plain`.
start_haproxy() {
    local options='' address count=0
    if [ "$1" = tls ]; then
        options='ssl verify none'
    fi
    shift
    {
        cat <<CFG
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend acme
  bind 127.0.0.1:8443 ssl crt $work/tls/haproxy.pem
  http-request set-header X-Forwarded-Proto https
  option forwardfor
  default_backend instances
backend instances
  balance roundrobin
CFG
        for address in "$@"; do
            count=$((count + 1))
            echo "  server instance$count $address $options"
        done
    } >"$run_folder/haproxy.cfg"
    launch proxy:haproxy haproxy -db -f "$run_folder/haproxy.cfg"
}
