# shellcheck shell=bash disable=SC2034,SC2154
# How step-ca is started for the comparison.
foreign=step-ca

version_of() { of_go_module "$home/step-ca"; }

# Starts instance $1 with the `db` object $2.
step_ca() {
    cat >"$run_folder/ca$1.json" <<JSON
{
  "root": "$work/tls/root.pem", "crt": "$work/tls/issuing.pem", "key": "$work/tls/issuing.key",
  "address": "127.0.0.1:900$1", "dnsNames": ["localhost"], "logger": {"format": "text"}, "db": $2,
  "authority": {"provisioners": [{"type": "ACME", "name": "acme"}]}
}
JSON
    launch "server:step-ca$1" env STEPPATH="$run_folder/step$1" "$home/step-ca" --resolver 127.0.0.1:53 "$run_folder/ca$1.json"
}
