# shellcheck shell=bash disable=SC2034,SC2154
# Caddy with the handler acme_server.
title='Caddy, acme_server'
foreign=caddy
processes='one process'
settings='handler `acme_server` with its defaults, database bbolt (the only one it has; synced), intermediate P-256, logs as by default'
two='two instances with a data folder each and the same authority'

version_of() { cat "$home/version"; }

# Starts instance $1 with the data folder $2.
caddy() {
    cat >"$run_folder/Caddyfile$1" <<CADDY
{
  admin off
  skip_install_trust
  auto_https disable_redirects
  storage file_system $2
  pki {
    ca local {
      root {
        cert $work/tls/root.pem
        key $work/tls/root.key
      }
      intermediate {
        cert $work/tls/issuing.pem
        key $work/tls/issuing.key
      }
    }
  }
}
https://localhost:900$1 {
  bind 127.0.0.1
  tls $work/tls/server.pem $work/tls/server.key
  acme_server
}
CADDY
    launch "server:caddy$1" env HOME="$2" XDG_DATA_HOME="$2" XDG_CONFIG_HOME="$2" \
        "$home/caddy" run --config "$run_folder/Caddyfile$1" --adapter caddyfile
}

start() {
    mkdir "$run_folder/data1"
    caddy 1 "$run_folder/data1"
    serves caddy1 https://localhost:9001/acme/local/directory
}

start_two() {
    start || return
    # On the data folder of the first?
    caddy 2 "$run_folder/data1"
    if ! await caddy2 fetches https://localhost:9002/acme/local/directory 2>/dev/null; then
        echo "on one data folder the second does not start: $(grep -o 'CA database [^;"]*' "$run_folder/caddy2.log" |
            sed "s,$run_folder,…,g" | tail -n 1)" >"$results/pairs/caddy.note"
    fi
    end_last
    mkdir "$run_folder/data2"
    caddy 2 "$run_folder/data2"
    serves caddy2 https://localhost:9002/acme/local/directory || return
    directories=()
    start_haproxy tls 127.0.0.1:9001 127.0.0.1:9002
    serves haproxy https://localhost:8443/acme/local/directory
}
