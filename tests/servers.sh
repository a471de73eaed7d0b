#!/usr/bin/env bash
# Runs a command next to a private PostgreSQL and a private Redis (Linux).
#
#   tests/servers.sh cargo nextest run --test integration
#   tests/servers.sh bash -c 'psql "$TEST_DATABASE_URL"'
#
# Both servers listen on free ports of 127.0.0.1 and keep everything in a new
# temporary folder. The command finds them through these variables:
#
#   TEST_DATABASE_URL   postgres://salespulse@127.0.0.1:PORT/salespulse, as a server logs in
#   TEST_OWNER_URL      the same, as the owner of the tables
#   TEST_SUPERUSER_URL  the same, as the superuser, over the socket
#   TEST_REDIS_URL      redis://127.0.0.1:PORT
#   TEST_POSTGRES_PID_FILE, TEST_POSTGRES_RESTART
#                       the file with PostgreSQL's process id, and the shell
#                       command that restarts it after it was killed
#
# The role `salespulse_owner` owns the database and may create others; it is not
# a superuser. When the command ends, or on INT, TERM or HUP, the servers are
# stopped and the folder is removed. The exit code is the command's; 2 means wrong
# usage, 3 that the servers are not installed, 4 that one of them did not start.
#
#   SERVERS_DURABLE=1       PostgreSQL commits durably (for measurements);
#                           otherwise fsync is off (for tests)
#   SERVERS_KEEP_LOGS=DIR   copies the servers' logs to DIR at the end
#
# Missing servers are installed with apt if that works without a password; this
# creates and starts no system-wide server.
set -euo pipefail

readonly POSTGRES_MIN=15 REDIS_MIN=7
# Seconds to wait for: a server to start, the command to end, a server to stop.
readonly START_WAIT=60 COMMAND_WAIT=15 STOP_WAIT=20

say() { printf 'servers: %s\n' "$*" >&2; }

if [ $# -eq 0 ]; then
    say "usage: tests/servers.sh COMMAND [ARGUMENT...]"
    exit 2
fi

# Settings for another PostgreSQL must not reach psql below or the command.
for name in "${!PG@}"; do unset "$name"; done

folder='' postgres_pid='' redis_pid='' command_pid=''
redis_log='' postgres_log='' postgres_bin=''
postgres=()
undo_install=()

# ------------------------------------------------------------------ stopping

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# Process $1 and all processes of its session: everything that the command started.
session() {
    local stat fields pid
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/} pid=${pid%/stat} fields=''
        { read -r fields <"$stat"; } 2>/dev/null || continue
        # pid (name, which may contain anything) state ppid pgrp session ...
        # shellcheck disable=SC2086
        set -- "$1" ${fields##*) }
        if { [ "${5:-}" = "$1" ] || [ "$pid" = "$1" ]; } && [ "${2:-}" != Z ]; then
            echo "$pid"
        fi
    done
}

stop_command() {
    local leader=$1 pids deadline
    pids=$(session "$leader")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    kill -TERM $pids 2>/dev/null || true
    deadline=$((SECONDS + COMMAND_WAIT))
    while pids=$(session "$leader"); [ -n "$pids" ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            # shellcheck disable=SC2086
            kill -KILL $pids 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
}

# stop_server PID SIGNAL: sends SIGNAL, and KILL if the server does not stop in time.
stop_server() {
    local pid=$1 signal=$2 deadline
    if alive "$pid"; then
        kill "-$signal" "$pid" 2>/dev/null || true
        deadline=$((SECONDS + STOP_WAIT))
        while alive "$pid"; do
            if [ "$SECONDS" -ge "$deadline" ]; then
                kill -KILL "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.05
        done
    fi
    wait "$pid" 2>/dev/null || true
}

finish() {
    local code=$?
    trap '' INT TERM HUP
    set +e
    if [ -n "$command_pid" ]; then
        stop_command "$command_pid"
        if [ -n "$postgres_pid" ] && ! alive "$postgres_pid"; then
            say "PostgreSQL ended while the command ran; the end of its log:"
            tail -n 40 "$postgres_log" >&2
        fi
        if [ -n "$redis_pid" ] && ! alive "$redis_pid"; then
            say "Redis ended while the command ran; the end of its log:"
            tail -n 40 "$redis_log" >&2
        fi
    fi
    [ -z "$redis_pid" ] || stop_server "$redis_pid" TERM
    [ -z "$postgres_pid" ] || stop_server "$postgres_pid" INT
    # The command may have restarted PostgreSQL.
    if [ -s "$folder/postgres/postmaster.pid" ]; then
        stop_server "$(head -n 1 "$folder/postgres/postmaster.pid")" INT
    fi
    if [ -n "$folder" ]; then
        if [ -n "${SERVERS_KEEP_LOGS:-}" ]; then
            mkdir -p "$SERVERS_KEEP_LOGS" && cp "$folder"/*.log "$SERVERS_KEEP_LOGS"/ 2>/dev/null
        fi
        rm -rf "$folder"
    fi
    [ ${#undo_install[@]} -eq 0 ] || as_root rm -f "${undo_install[@]}"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# ---------------------------------------------------------------- installing

# Prints the folder of the PostgreSQL programs: version 15 if present, else the newest.
find_postgres() {
    local dir version found='' best=0
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        "$(dirname "$(command -v postgres 2>/dev/null || echo /none/none)")"; do
        [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/psql" ] || continue
        version=$("$dir/postgres" --version 2>/dev/null | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')
        [ -n "$version" ] && [ "$version" -ge $POSTGRES_MIN ] || continue
        if [ "$version" -eq $POSTGRES_MIN ]; then
            echo "$dir"
            return 0
        fi
        if [ "$version" -gt "$best" ]; then
            best=$version found=$dir
        fi
    done
    [ -n "$found" ] && echo "$found"
}

find_redis() {
    local version
    command -v redis-server >/dev/null && command -v redis-cli >/dev/null || return 1
    version=$(redis-server --version | sed -n 's/.*v=\([0-9][0-9]*\).*/\1/p')
    [ -n "$version" ] && [ "$version" -ge $REDIS_MIN ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n -- "$@"; fi
}

missing() {
    local list=()
    find_postgres >/dev/null || list+=("PostgreSQL $POSTGRES_MIN")
    find_redis || list+=("Redis $REDIS_MIN")
    [ ${#list[@]} -gt 0 ] || return 1
    printf '%s' "${list[0]}"
    [ ${#list[@]} -lt 2 ] || printf ' and %s' "${list[1]}"
}

give_up() {
    say "$(missing) or newer must be installed first, for example on Debian 12:"
    say "    apt-get install postgresql-$POSTGRES_MIN redis-server"
    [ -z "${1:-}" ] || say "($1)"
    exit 3
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

install_missing() {
    local packages=() file code=0 had_redis=1
    command -v apt-get >/dev/null || give_up "there is no apt here to install it with"
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null ||
        give_up "not installed from here: that takes root or sudo without a password"

    # One installation at a time, among all runs of this file.
    exec 9<"${BASH_SOURCE[0]}"
    flock 9
    if missing >/dev/null; then
        say "installing $(missing)"
        # PostgreSQL's package would create and start a cluster on port 5432, ...
        file=/etc/postgresql-common/createcluster.d/salespulse-tests.conf
        if ! find_postgres >/dev/null; then
            undo_install+=("$file")
            as_root mkdir -p "${file%/*}"
            echo "create_main_cluster = false" | as_root tee "$file" >/dev/null
        fi
        # ... and Redis's package would start a server on port 6379.
        file=/usr/sbin/policy-rc.d
        if [ ! -e "$file" ]; then
            undo_install+=("$file")
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$file" >/dev/null
            as_root chmod 755 "$file"
        fi

        apt update || say "apt-get update failed; trying with the lists that are here"
        if ! find_postgres >/dev/null; then
            if apt-cache show "postgresql-$POSTGRES_MIN" >/dev/null 2>&1; then
                packages+=("postgresql-$POSTGRES_MIN")
            else
                packages+=(postgresql)
            fi
        fi
        if ! find_redis; then
            had_redis=0
            packages+=(redis-server)
        fi
        apt install --no-install-recommends "${packages[@]}" || code=$?
        if [ $had_redis -eq 0 ] && [ $code -eq 0 ] && command -v systemctl >/dev/null; then
            as_root systemctl disable redis-server >/dev/null 2>&1 || true
        fi
        if [ ${#undo_install[@]} -gt 0 ]; then
            as_root rm -f "${undo_install[@]}"
            undo_install=()
        fi
        hash -r
        [ $code -eq 0 ] || give_up "apt-get ended with code $code, see above"
    fi
    exec 9<&-
}

if missing >/dev/null; then
    install_missing
    if missing >/dev/null; then give_up "what apt offers here is older"; fi
fi
postgres_bin=$(find_postgres)

# ------------------------------------------------------------------ starting

# PostgreSQL refuses to run as root; in that case the servers run as another user.
run_as=()
if [ "$(id -u)" -eq 0 ]; then
    server_user=postgres
    id "$server_user" >/dev/null 2>&1 || server_user=nobody
    run_as=(setpriv "--reuid=$(id -u "$server_user")" "--regid=$(id -g "$server_user")" --clear-groups)
fi
# If this script is killed outright, the servers stop with it.
server=("${run_as[@]}")
if setpriv --help 2>/dev/null | grep -q -- --pdeathsig; then
    [ ${#server[@]} -gt 0 ] || server=(setpriv)
    server+=(--pdeathsig INT)
fi

# The path of a socket may have at most 107 characters.
base=${TMPDIR:-/tmp}
if [ ${#base} -gt 60 ] || { [ ${#run_as[@]} -gt 0 ] && ! "${run_as[@]}" test -x "$base"; }; then
    base=/tmp
fi
folder=$(mktemp -d "$base/salespulse-servers.XXXXXXXX")
postgres_log=$folder/postgres.log
redis_log=$folder/redis.log
: >"$postgres_log"
: >"$redis_log"
mkdir "$folder/redis"
[ ${#run_as[@]} -eq 0 ] || chown -R "$(id -u "$server_user"):$(id -g "$server_user")" "$folder"

# Prints a port that is not in use, below those used for outgoing connections.
# Another process may still take it first; then the start fails and is retried.
free_port() {
    local port
    for _ in {1..200}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return 0
        fi
    done
    say "no free port found"
    return 1
}

roles=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/scripts/roles.sql

start_postgres() {
    local data=$folder/postgres durable=() deadline port
    local psql=("${run_as[@]}" "$postgres_bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$folder" -U postgres)
    if [ -z "${SERVERS_DURABLE:-}" ] || [ "$SERVERS_DURABLE" = 0 ]; then
        durable=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
    fi
    if ! (cd "$folder" && "${run_as[@]}" "$postgres_bin/initdb" -D "$data" --username=postgres \
        --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync) </dev/null >>"$postgres_log" 2>&1; then
        say "initdb failed:"
        cat "$postgres_log" >&2
        return 1
    fi
    # No password is needed over the socket, which only the folder's own user can reach, nor over
    # loopback for the logins of roles.sql.
    printf '%s\n' 'local all all trust' 'host all salespulse,salespulse_owner,salespulse_backup 127.0.0.1/32 trust' >"$data/pg_hba.conf"

    for _ in {1..10}; do
        port=$(free_port)
        : >"$postgres_log"
        postgres=("$postgres_bin/postgres" -D "$data"
            -c listen_addresses=127.0.0.1 -c "port=$port" -c "unix_socket_directories=$folder"
            -c shared_buffers=256MB -c max_connections=200 -c timezone=UTC -c log_timezone=UTC
            "${durable[@]}")
        (cd "$folder" && exec setsid "${server[@]}" "${postgres[@]}") </dev/null >>"$postgres_log" 2>&1 &
        postgres_pid=$!
        deadline=$((SECONDS + START_WAIT))
        while alive "$postgres_pid" && [ "$SECONDS" -lt "$deadline" ]; do
            if [ "$(sed -n 8p "$data/postmaster.pid" 2>/dev/null | tr -d ' ')" = ready ]; then
                if (cd "$folder" && { cat "$roles" && printf '%s\n' \
                    'ALTER ROLE salespulse_owner CREATEDB;' \
                    'CREATE DATABASE salespulse OWNER salespulse_owner;'; } |
                    "${psql[@]}" -p "$port" -d postgres) >>"$postgres_log" 2>&1; then
                    postgres_port=$port
                    return 0
                fi
                break 2
            fi
            sleep 0.05
        done
        stop_server "$postgres_pid" INT
        postgres_pid=
        grep -q 'Address already in use' "$postgres_log" || break
    done
    say "PostgreSQL did not start; its log:"
    cat "$postgres_log" >&2
    return 1
}

start_redis() {
    local deadline port
    for _ in {1..10}; do
        port=$(free_port)
        : >"$redis_log"
        (cd "$folder/redis" && exec setsid "${server[@]}" redis-server --port "$port" --bind 127.0.0.1 \
            --save "" --appendonly no --daemonize no --dir "$folder/redis") \
            </dev/null >>"$redis_log" 2>&1 &
        redis_pid=$!
        deadline=$((SECONDS + START_WAIT))
        while alive "$redis_pid" && [ "$SECONDS" -lt "$deadline" ]; do
            # Check its log, since another server may be answering on this port.
            if grep -q 'Ready to accept connections' "$redis_log"; then
                redis_port=$port
                return 0
            fi
            sleep 0.05
        done
        stop_server "$redis_pid" TERM
        redis_pid=
        grep -qi 'Address already in use' "$redis_log" || break
    done
    say "Redis did not start; its log:"
    cat "$redis_log" >&2
    return 1
}

start_redis || exit 4
start_postgres || exit 4

# ------------------------------------------------------------------- running

export TEST_DATABASE_URL="postgres://salespulse@127.0.0.1:$postgres_port/salespulse"
export TEST_OWNER_URL="postgres://salespulse_owner@127.0.0.1:$postgres_port/salespulse"
# A slash in the name of a host is written as %2F.
export TEST_SUPERUSER_URL="postgres://postgres@${folder//\//%2F}:$postgres_port/salespulse"
export TEST_REDIS_URL="redis://127.0.0.1:$redis_port"

export TEST_POSTGRES_PID_FILE=$folder/postgres/postmaster.pid
TEST_POSTGRES_RESTART=$(printf '%q ' setsid "${run_as[@]}" "${postgres[@]}")
export TEST_POSTGRES_RESTART="cd $(printf '%q' "$folder") && $TEST_POSTGRES_RESTART </dev/null >>$(printf '%q' "$postgres_log") 2>&1 &"

# A separate session, so that all its processes can be found and stopped. The shell
# makes background commands ignore INT and QUIT; this is undone.
own=(setsid)
if env --default-signal=INT true 2>/dev/null; then own+=(env --default-signal=INT --default-signal=QUIT); fi
"${own[@]}" "$@" <&0 &
command_pid=$!
code=0
wait "$command_pid" || code=$?
exit "$code"
