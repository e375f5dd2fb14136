#!/bin/sh
# Signs a token, for machines without an issuer (docs/deploy.md):
#
#   token.sh KEY AUDIENCE SUBJECT [CLAIMS [SECONDS]]
#   token.sh /etc/freshet/issuer.key https://app.example.com ada '"conversations":["7"]'
#
# KEY is an RSA key as `openssl genrsa` makes it; serve has its public half by
# --jwt-keys. CLAIMS are members of a JSON object. It lives for an hour.
set -eu
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
key=$1 audience=$2 subject=$3 claims=${4:-} life=${5:-3600}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

now=$(date +%s)
header=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url)
payload=$(printf '{"aud":"%s","sub":"%s","iat":%d,"exp":%d%s}' \
	"$audience" "$subject" "$now" $((now + life)) "${claims:+,$claims}" | base64url)
signature=$(printf '%s.%s' "$header" "$payload" | openssl dgst -sha256 -sign "$key" -binary | base64url)
printf '%s.%s.%s\n' "$header" "$payload" "$signature"
