#!/bin/sh
# Makes ./secrets: every password and key of the installation that compose.yaml describes. What is there
# is kept. BYOK says how `byok` is run here; without it, by the image.
set -eu
cd "$(dirname "$0")"
BYOK=${BYOK:-docker run --rm ${BYOK_IMAGE:-byok:0.1.0}}
if [ -e secrets ]; then
    echo "There are secrets already: move them away to make new ones." >&2
    exit 1
fi
umask 077
made=$(mktemp -d secrets.XXXXXX)
trap 'rm -rf "$made"' EXIT

password() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
put() { printf '%s\n' "$2" >"$made/$1"; }
sha256() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
# The value of one variable that `byok keygen` printed.
value() { printf '%s\n' "$1" | sed -n "s/^$2=//p"; }

worker=$(password) publisher=$(password) subscriber=$(password) reader=$(password)
put broker_url "redis://byok-worker:$worker@redis:6379/0"
put redis_url "redis://byok-worker:$worker@redis:6379/1"
put publisher_broker_url "redis://byok-publisher:$publisher@redis:6379/0"
put publisher_redis_url "redis://byok-publisher:$publisher@redis:6379/1"
put subscriber_redis_url "redis://byok-subscriber:$subscriber@redis:6379/1"
grep -v '^#' ../redis/users.acl |
    sed -e "s/HASH_OF_WORKER/$(sha256 "$worker")/" -e "s/HASH_OF_PUBLISHER/$(sha256 "$publisher")/" \
        -e "s/HASH_OF_SUBSCRIBER/$(sha256 "$subscriber")/" -e "s/HASH_OF_READER/$(sha256 "$reader")/" \
        >"$made/redis_users"

rabbit=$(password)
put amqp_url "amqp://byok:$rabbit@rabbitmq:5672"
put rabbitmq_definitions "{\"users\": [{\"name\": \"byok\", \"password\": \"$rabbit\", \"tags\": []}],
 \"vhosts\": [{\"name\": \"/\"}], \"permissions\": [{\"user\": \"byok\", \"vhost\": \"/\",
 \"configure\": \"^(accounts|keys|analyses|validations|usage)([.](DQ|XQ))?$\", \"write\": \".*\", \"read\": \".*\"}]}"

put postgres_password "$(password)"
: >"$made/postgresql_passwords"
for role in owner worker scheduler publisher reader; do
    secret=$(password)
    put "${role}_database_url" "postgresql://byok_$role:$secret@postgresql/byok"
    echo "ALTER ROLE byok_$role PASSWORD '$secret';" >>"$made/postgresql_passwords"
done

put master_keys "$(value "$($BYOK keygen master)" BYOK_MASTER_KEYS)"
sealing=$($BYOK keygen sealing)
put sealing_keys "$(value "$sealing" BYOK_SEALING_KEYS)"
put sealing_public_key "$(value "$sealing" BYOK_SEALING_PUBLIC_KEY)"
signing=$($BYOK keygen signing)
put signing_key "$(value "$signing" BYOK_SIGNING_KEY)"
put publishers "$(value "$signing" BYOK_PUBLISHERS)"
put grafana_password "$(password)"

# The containers' users are not this one; the directory keeps others of this machine out.
chmod 0644 "$made"/*
mv "$made" secrets
trap - EXIT
echo "Made $(pwd)/secrets. Keep master_keys and sealing_keys elsewhere, too: without them nothing stored opens."
