#!/bin/bash
# Serves a SoftHSM token that lives in ./run and nowhere else: conf/try.sh PROGRAM ADDRESS. `make run` calls it.
set -euo pipefail

program=$1
address=$2
run=$PWD/run
umask 077
mkdir -p "$run/tokens" "$run/state"

for module in /usr/lib/softhsm /usr/lib/*/softhsm /usr/lib64/softhsm /usr/lib64/pkcs11 /usr/local/lib/softhsm; do
	module=$module/libsofthsm2.so
	[ -e "$module" ] && break
done
[ -e "$module" ] || { echo 'libsofthsm2.so was not found where SoftHSM is usually installed' >&2; exit 1; }

cat >"$run/softhsm2.conf" <<EOF
directories.tokendir = $run/tokens
objectstore.backend = file
log.level = ERROR
EOF
export SOFTHSM2_CONF=$run/softhsm2.conf

random() { od -An -N8 -tx1 /dev/urandom | tr -d ' \n'; }
[ -s "$run/pin" ] || random >"$run/pin"
[ -s "$run/so-pin" ] || random >"$run/so-pin"
pin=$(<"$run/pin")

if ! softhsm2-util --show-slots | grep -q '^ *Label: *cascade *$'; then
	softhsm2-util --init-token --free --label cascade --pin "$pin" --so-pin "$(<"$run/so-pin")" >/dev/null
fi

cat >"$run/config.toml" <<EOF
version = "v1"

[pkcs11]
lib-path = "$module"

[server]
addr = "$address"
EOF
export STATE_DIRECTORY=$run/state

# Passes the bridge's log on, and says how to use it once it serves. Ends with the bridge, not before it.
tell() {
	trap '' INT TERM
	local line told=
	while IFS= read -r line; do
		printf '%s\n' "$line"
		[[ -z $told && $line == *'listening on '* ]] || continue
		told=yes
		cat <<-EOF

			The bridge serves the token 'cascade' of $run.
			Certificate: $run/state/server.crt
			$(openssl x509 -in "$run/state/server.crt" -noout -fingerprint -sha256)
			Ctrl-C ends it. To use it with Cascade:

			    cascade hsm add --port ${address##*:} --username cascade --password $pin --server-cert $run/state/server.crt bridge ${address%:*}

		EOF
	done
}
exec "$program" --config "$run/config.toml" 2> >(tell >&2)
