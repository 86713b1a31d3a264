#!/bin/sh
# Installs dumont-agent on a Linux host or in a container:
#   curl -fsSL https://control.example/install.sh | DUMONT_ENROL_TOKEN=… sh
# A POSIX shell script (dash, busybox ash). All of it is functions and the last line calls them, so that a download that
# breaks off runs nothing. What it does and leaves: control-plane/docs/INSTALL.md.
set -u
caller_umask=$(umask)
umask 077

# Filled in by the control plane that serves this file.
served_url='@DUMONT_CONTROL_URL@'
served_version='@DUMONT_VERSION@'

readonly GLIBC_MINOR=28          # of glibc 2: what Node 24 is linked against
readonly ASSUMED_KB=300000       # of disk, when the release does not tell its size
readonly SPARE_KB=20480          # left free beside the agent's files
readonly SKEW_WARN_S=60
readonly SKEW_FAIL_S=300         # storage services refuse requests whose time is further off
readonly DOWNLOAD_TRIES=3
readonly NAME=dumont-agent

usage() {
  cat <<'HELP'
Installs dumont-agent, which keeps a workspace alive on a spot machine.

usage: install.sh [options]       (piped: … | sh -s -- [options])

  --token TOKEN          one-time enrolment token; better DUMONT_ENROL_TOKEN or --token-file, which `ps` does not show
  --token-file FILE      a file that holds it
  --url URL              control plane; known already when it served this script
  --version VERSION      default: the newest
  --workspace-dir DIR    the folder kept alive (default /workspace)
  --prefix DIR           where the program goes (root: /opt/dumont-agent, else ~/.local/share/dumont-agent)
  --no-start             install and enrol only
  --standalone           only the program: no control plane, no service
  --upgrade              a newer version of what is installed; the old one comes back when the new one fails
  --uninstall            stop and remove the program; --purge: state and configuration as well
  --dry-run              say every step, change nothing
  --yes, -y              ask nothing
  --quiet, -q            say only what went wrong
  --help, -h

environment: DUMONT_ENROL_TOKEN, DUMONT_CONTROL_URL; kept in agent.env when set: DUMONT_WORKSPACE_DIR, DUMONT_NVIDIA_SMI,
DUMONT_FILE_STORE_MOUNT, SNAPSHOT_PASSWORD, DUMONT_LOG_LEVEL. DUMONT_INSTALL_WAIT_S (45) is how long the connection may take.
HELP
}

main() {
  set_defaults
  parse_options "$@"
  find_layout
  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  case $action in
    uninstall) uninstall ;;
    *) install_agent ;;
  esac
}

# ---- words --------------------------------------------------------------------------------------------------------

say() { [ "$quiet" = 1 ] || printf '%s\n' "$1"; }
warn() { printf 'dumont: warning: %s\n' "$1" >&2; }

# $1 what is wrong, in one line; $2 what to do about it.
die() {
  printf 'dumont: error: %s\n' "$1" >&2
  [ -n "${2-}" ] && printf '  hint: %s\n' "$2" >&2
  exit 1
}

usage_error() {
  printf 'dumont: error: %s\n  hint: see --help\n' "$1" >&2
  exit 2
}

# Announces a step that changes something. Fails in a dry run: `plan '…' || return 0`.
plan() {
  if [ "$dry_run" = 1 ]; then
    printf 'would %s\n' "$1"
    return 1
  fi
  say "· $1"
}

# ---- options ------------------------------------------------------------------------------------------------------

set_defaults() {
  case $served_url in @*) served_url= ;; esac
  case $served_version in @*) served_version= ;; esac
  url=${DUMONT_CONTROL_URL:-$served_url}
  version=$served_version
  token=${DUMONT_ENROL_TOKEN:-}
  # The token is for one program only, and where things lie is decided here.
  unset DUMONT_ENROL_TOKEN DUMONT_INSTALL_DIR DUMONT_CONFIG_DIR DUMONT_STATE_DIR
  workspace_dir=${DUMONT_WORKSPACE_DIR:-}
  prefix='' action=install
  start=1 standalone=0 purge=0 dry_run=0 assume_yes=0 quiet=0
  staging='' lock='' made_dirs='' new_version_dir='' new_env_file='' is_done=0
}

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --token | --token-file | --url | --version | --workspace-dir | --prefix)
        { [ $# -ge 2 ] && [ -n "$2" ]; } || usage_error "$1 needs a value"
        set_option "$1" "$2"
        shift
        ;;
      --*=*) set_option "${1%%=*}" "${1#*=}" ;;
      --no-start) start=0 ;;
      --standalone) standalone=1 ;;
      --upgrade) action=upgrade ;;
      --uninstall) action=uninstall ;;
      --purge) purge=1 ;;
      --dry-run) dry_run=1 ;;
      --yes | -y) assume_yes=1 ;;
      --quiet | -q) quiet=1 ;;
      --help | -h)
        usage
        exit 0
        ;;
      *) usage_error "unknown option $1" ;;
    esac
    shift
  done
  [ "$purge" = 0 ] || [ "$action" = uninstall ] || usage_error '--purge goes with --uninstall'
  check_words
}

set_option() {
  case $1 in
    --token) token=$2 ;;
    --token-file)
      [ -r "$2" ] || die "cannot read the token file $2" 'check its path and permissions'
      token=$(tr -d ' \t\r\n' <"$2")
      ;;
    --url) url=$2 ;;
    --version) version=$2 ;;
    --workspace-dir) workspace_dir=$2 ;;
    --prefix) prefix=$2 ;;
    *) usage_error "unknown option $1" ;;
  esac
}

check_words() {
  url=${url%/}
  case $url in
    '' | http://?* | https://?*) ;;
    *) usage_error "the URL of the control plane must begin with http:// or https://, not $url" ;;
  esac
  case $version in
    '' | [0-9]*) ;;
    *) usage_error "$version is not a version" ;;
  esac
  case $version in *[!0-9A-Za-z.+-]*) usage_error "$version is not a version" ;; esac
  case $prefix in
    '' | /?*) ;;
    *) usage_error '--prefix needs an absolute path' ;;
  esac
  case $prefix in *[!0-9A-Za-z./_+@-]*) usage_error '--prefix may hold letters, digits and ./_+@- only' ;; esac
  case $workspace_dir in
    '' | /?*) ;;
    *) usage_error '--workspace-dir needs an absolute path' ;;
  esac
  prefix=${prefix%/}
}

# ---- where things go ----------------------------------------------------------------------------------------------

find_layout() {
  user_id=$(id -u) || die 'the command id is missing' 'install coreutils or busybox'
  if [ "$user_id" = 0 ]; then
    default_prefix=/opt/$NAME config_dir=/etc/$NAME state_dir=/var/lib/$NAME link=/usr/local/bin/$NAME
  else
    case ${HOME:-} in /?*) ;; *) die 'HOME is not set' 'set it to the home folder of this user' ;; esac
    default_prefix=$HOME/.local/share/$NAME config_dir=$HOME/.config/$NAME
    state_dir=$HOME/.local/state/$NAME link=$HOME/.local/bin/$NAME
  fi
  unit=/etc/systemd/system/$NAME.service
  env_file=$config_dir/agent.env
  # An installation elsewhere is found by its link.
  linked=$(readlink "$link" 2>/dev/null) || linked=
  case $linked in
    */current/$NAME) linked=${linked%/current/"$NAME"} ;;
    *) linked= ;;
  esac
  prefix=${prefix:-${linked:-$default_prefix}}
  supervisor=$prefix/current/dumont-supervisor
  installed=$(readlink "$prefix/current" 2>/dev/null) || installed=
  installed=${installed##*/}
}

check_other_installation() {
  if [ -e "$link" ] || [ -L "$link" ]; then
    [ "$linked" = "$prefix" ] ||
      die "another installation is in place: $link leads to ${linked:-something else}" \
        "remove it first (install.sh --uninstall${linked:+ --prefix $linked})"
  fi
  [ "$standalone" = 1 ] && return
  joined=$(env_value DUMONT_CONTROL_URL)
  if [ -n "$joined" ]; then
    url=${url:-$joined}
    [ "$joined" = "$url" ] ||
      die "another installation is in place: this machine belongs to $joined" \
        'remove it first: install.sh --uninstall --purge'
  fi
}

# A value of agent.env, without its quotes.
env_value() {
  [ -r "$env_file" ] || return 0
  sed -n "s/^$1='\\(.*\\)'\$/\\1/p" "$env_file" | head -n 1
}

has_systemd() { [ "$user_id" = 0 ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

# Makes a folder and those above it, and remembers which are new, so that they can go again. $2: its umask.
make_dir() {
  [ -d "$1" ] && return
  case $1 in /*/*) make_dir "${1%/*}" "$2" ;; esac
  (umask "$2" && mkdir "$1" 2>/dev/null) ||
    die "cannot create $1$(why_not "${1%/*}")" 'choose a folder of yours with --prefix, or run as the user who owns it'
  made_dirs="$1
$made_dirs"
}

why_not() {
  if [ ! -w "${1:-/}" ]; then
    printf ': no permission'
  elif [ "$(free_kb "$1")" -lt 100 ]; then
    printf ': the disk is full'
  fi
}

# ---- checks -------------------------------------------------------------------------------------------------------

check_host() {
  for tool in cat chmod date df grep gzip head id ln mkdir mv readlink rm rmdir sed sleep tail tr uname wc; do
    command -v "$tool" >/dev/null 2>&1 ||
      die "the command $tool is missing" 'install it (Debian: apt-get install coreutils gzip grep sed)'
  done
  if command -v sha256sum >/dev/null 2>&1; then
    hasher=sha256sum
  elif command -v shasum >/dev/null 2>&1; then
    hasher='shasum -a 256'
  elif command -v openssl >/dev/null 2>&1; then
    hasher='openssl dgst -sha256 -r'
  else
    die 'no command for SHA-256' 'install coreutils (sha256sum), perl (shasum) or openssl'
  fi
  if command -v curl >/dev/null 2>&1; then
    fetcher=curl
  elif command -v wget >/dev/null 2>&1; then
    fetcher=wget
  else
    die 'neither curl nor wget is here' 'install one of them (Debian: apt-get install curl)'
  fi
  check_machine
  check_libc
}

check_machine() {
  [ "$(uname -s)" = Linux ] || die "this is $(uname -s), the agent runs on Linux" 'install it on the machine that does the work'
  case $(uname -m) in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) die "no build for the processor $(uname -m)" 'the agent is built for x86_64 and aarch64' ;;
  esac
}

# Where neither ldd nor getconf can be asked, starting the program tells (check_runs).
check_libc() {
  case $(ldd --version 2>&1) in
    *musl*) die 'this system has the C library musl, the agent needs glibc' \
      'use an image with glibc (Debian, Ubuntu and their children) instead of Alpine' ;;
  esac
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || return 0
  glibc=${glibc#glibc }
  major=${glibc%%.*} minor=${glibc#*.}
  minor=${minor%%[!0-9]*}
  case $major$minor in '' | *[!0-9]*) return 0 ;; esac
  [ "$major" -gt 2 ] || [ "${minor:-0}" -ge "$GLIBC_MINOR" ] ||
    die "glibc $glibc is too old, the agent needs 2.$GLIBC_MINOR" 'use Debian 10, Ubuntu 18.10, RHEL 8 or newer'
}

free_kb() {
  # Without awk, which small images lack.
  df -Pk "$1" 2>/dev/null | tail -n 1 | tr -s ' ' | {
    read -r _ _ _ free _
    printf '%s' "${free:-0}"
  }
}

check_disk() {
  bytes=$(release_number bytes) packed=$(release_number compressedBytes)
  need_kb=$ASSUMED_KB
  [ -n "$bytes" ] && [ -n "$packed" ] && need_kb=$(((bytes + packed) / 1024))
  need_kb=$((need_kb + SPARE_KB))
  folder=$prefix
  while [ ! -d "$folder" ]; do folder=${folder%/*} folder=${folder:-/}; done
  have_kb=$(free_kb "$folder")
  [ "${have_kb:-0}" -ge "$need_kb" ] ||
    die "the disk is full: $folder has $((have_kb / 1024)) MiB free, $((need_kb / 1024 + 1)) MiB are needed" \
      'make room, or choose another place with --prefix'
}

# Tried out, since mount options do not tell of all that may forbid it.
check_may_execute() {
  { printf '#!/bin/sh\nexit 0\n' >"$staging/probe" && chmod 700 "$staging/probe"; } 2>/dev/null ||
    die "cannot write in $staging$(why_not "$staging")" 'make room, or choose another place with --prefix'
  "$staging/probe" 2>/dev/null ||
    die "nothing may be executed in $prefix: it lies on a mount with noexec" 'choose another place with --prefix'
  rm -f "$staging/probe"
}

# By the Date of the server's answer; without one there is nothing to compare.
check_clock() {
  server_date=$(headers_of "$1" | tr -d '\r' | sed -n 's/^ *[Dd]ate: *//p' | tail -n 1)
  [ -n "$server_date" ] || return 0
  server_s=$(http_date_s "$server_date")
  [ -n "$server_s" ] || return 0
  skew=$(($(date +%s) - server_s))
  [ "$skew" -lt 0 ] && skew=$((-skew))
  hint='set the clock, by NTP (timedatectl set-ntp true) or: date -u -s "'$server_date'"'
  [ "$skew" -le "$SKEW_FAIL_S" ] || die "this clock is $skew s off from the control plane's" "$hint"
  [ "$skew" -le "$SKEW_WARN_S" ] || warn "this clock is $skew s off from the control plane's; $hint"
}

# Seconds since 1970 of a date such as "Sun, 06 Nov 1994 08:49:37 GMT", by arithmetic: `date -d` is not the same everywhere.
http_date_s() {
  # shellcheck disable=SC2086 # its words
  set -- $1
  [ $# -ge 5 ] || return 0
  day=${2#0} year=$4 time=$5
  case $3 in
    Mar) month=0 ;; Apr) month=1 ;; May) month=2 ;; Jun) month=3 ;; Jul) month=4 ;; Aug) month=5 ;;
    Sep) month=6 ;; Oct) month=7 ;; Nov) month=8 ;; Dec) month=9 ;; Jan) month=10 ;; Feb) month=11 ;;
    *) return 0 ;;
  esac
  case $day$year in *[!0-9]*) return 0 ;; esac
  # The year begins in March here, so that the day that comes and goes is its last.
  [ "$month" -ge 10 ] && year=$((year - 1))
  days=$((year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719468))
  hour=${time%%:*} second=${time##*:} minute=${time#*:}
  minute=${minute%%:*}
  printf '%s' "$((days * 86400 + ${hour#0} * 3600 + ${minute#0} * 60 + ${second#0}))"
}

# ---- downloads ----------------------------------------------------------------------------------------------------

headers_of() {
  if [ "$fetcher" = curl ]; then
    curl -sSIL --max-time 30 -- "$1" 2>/dev/null
  else
    # shellcheck disable=SC2046 # words
    wget -S --spider $(wget_limits) "$1" 2>&1
  fi
}

# Prints a small document; fails with one line about why.
fetch_text() {
  if [ "$fetcher" = curl ]; then
    answer=$(curl -sSL --connect-timeout 15 --max-time 60 -w '\n%{http_code}' -- "$1" 2>/dev/null)
    judge_curl "$?" "${answer##*
}" "$1"
    printf '%s\n' "${answer%
*}"
  else
    # shellcheck disable=SC2046 # words
    answer=$(wget -q -O - $(wget_limits) "$1" 2>/dev/null) || judge_wget "$1"
    printf '%s\n' "$answer"
  fi
}

# Those of busybox are not built in everywhere, and where they are not it crashes.
wget_limits() {
  case $(wget --version 2>/dev/null) in *GNU*) printf '%s' '--tries=1 --timeout=30' ;; esac
}

# Into a file, with the progress on a terminal, and once more when it breaks off.
fetch_file() {
  try=1
  while :; do
    rm -f "$2"
    reason=$(fetch_file_once "$1" "$2" 3>&2 2>&1) && return
    case $reason in *'broke off'*) ;; *) break ;; esac
    [ "$try" -ge "$DOWNLOAD_TRIES" ] && break
    sleep "$try"
    try=$((try + 1))
  done
  printf '%s\n' "$reason" >&2
  exit 1
}

# Errors go to stderr, progress to file 3.
fetch_file_once() {
  shows=0
  [ -t 3 ] && [ "$quiet" = 0 ] && shows=1
  if [ "$fetcher" = curl ]; then
    if [ "$shows" = 1 ]; then look=--progress-bar; else look=-s; fi
    status=$(curl -fL "$look" --connect-timeout 15 --speed-limit 1000 --speed-time 30 -o "$2" -w '%{http_code}' -- "$1" 2>&3)
    judge_curl "$?" "$status" "$1"
  elif [ "$shows" = 1 ] && [ -n "$(wget_limits)" ]; then
    wget -q --show-progress --tries=1 --timeout=30 -O "$2" "$1" 2>&3 || judge_wget "$1"
  else
    # shellcheck disable=SC2046 # words
    wget -q $(wget_limits) -O "$2" "$1" 2>/dev/null || judge_wget "$1"
  fi
}

# $1 curl's exit code, $2 the HTTP status, $3 the URL
judge_curl() {
  case $1 in
    0 | 22) judge_status "$2" "$3" ;;
    5 | 6 | 7 | 28 | 97) no_network "$3" ;;
    35 | 51 | 53 | 54 | 58 | 59 | 60 | 64 | 66 | 77 | 80 | 82 | 83 | 90 | 91) tls_failure "$3" ;;
    23) no_room ;;
    *) broke_off "$3" ;;
  esac
}

# wget's exit codes say little (busybox: nothing), so it is asked once more what it says.
judge_wget() {
  said=$(headers_of "$1")
  status=$(printf '%s\n' "$said" | sed -n 's/.*HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' | tail -n 1)
  case $said in
    *certificate* | *SSL* | *TLS* | *ssl*) tls_failure "$1" ;;
    *refused* | *resolve* | *'bad address'* | *unreachable* | *'timed out'* | *"can't connect"*) no_network "$1" ;;
  esac
  [ "${staging:-}" = '' ] || [ "$(free_kb "$staging")" -gt 100 ] || no_room
  [ -z "$status" ] || judge_status "$status" "$1"
  broke_off "$1"
}

judge_status() {
  case $1 in
    2?? | '') ;;
    404) die "$2 is not there (404)" 'check --url and --version' ;;
    503) die "the control plane has no build of the agent to serve (503)" 'run there: npm run build:agent' ;;
    *) die "$2 was answered with status $1" 'check --url, and the log of the control plane' ;;
  esac
}

no_network() { die "no network: $1 does not answer" 'check the address, and the firewall or proxy (https_proxy) between'; }
tls_failure() {
  die "the TLS connection to $1 failed: its certificate is not trusted here, or something stands between" \
    'install ca-certificates, check the clock, or add the authority of the certificate to this system'
}
broke_off() { die "the download of $1 broke off" 'try again'; }
no_room() { die "the disk is full: $prefix" 'make room, or choose another place with --prefix'; }

# ---- the release --------------------------------------------------------------------------------------------------

find_release() {
  [ -n "$url" ] || die 'no control plane is named' 'say --url https://…, or fetch this script from the control plane itself'
  case $url in
    http://127.* | http://localhost* | 'http://[::1]'* | https://*) ;;
    *) warn "$url is not encrypted: whoever sits between could change what is installed" ;;
  esac
  if [ -z "$version" ]; then
    release=$(fetch_text "$url/downloads/release.json") || exit 1
    version=$(printf '%s' "$release" | tr -d '\n' | sed -n 's/.*"version"[ ]*:[ ]*"\([0-9][0-9A-Za-z.+-]*\)".*/\1/p')
    [ -n "$version" ] || die "$url/downloads/release.json names no version" 'check --url'
  else
    release=$(fetch_text "$url/downloads/$version/release.json") || exit 1
  fi
  downloads=$url/downloads/$version
  check_clock "$downloads/release.json"
  sums=$(fetch_text "$downloads/SHA256SUMS") || exit 1
  binary=$NAME-$version-linux-$arch
  sum=$(sum_of "$binary") packed_sum=$(sum_of "$binary.gz")
  { [ -n "$sum" ] && [ -n "$packed_sum" ]; } ||
    die "version $version has no build for $arch" "ask for another with --version, or build it: npm run build:agent"
}

sum_of() {
  printf '%s\n' "$sums" | while read -r hash file; do
    [ "${file#\*}" = "$1" ] && printf '%s' "$hash" && break
  done
}

# A number of this architecture's build in release.json; empty when it is not found.
release_number() {
  printf '%s' "$release" | tr -d ' \n\t' | tr '{' '\n' | grep "\"arch\":\"$arch\"" |
    sed -n "s/.*\"$1\":\\([0-9]*\\).*/\\1/p" | head -n 1
}

hash_of() {
  hashed=$($hasher "$1") || return 1
  printf '%s' "${hashed%% *}"
}

# ---- installing ---------------------------------------------------------------------------------------------------

install_agent() {
  check_host
  check_other_installation
  [ "$action" = install ] || [ -n "$installed" ] || die 'nothing is installed to upgrade' 'run it without --upgrade'
  # What was installed without a control plane is upgraded without one.
  [ "$action" = upgrade ] && [ ! -f "$env_file" ] && standalone=1
  find_release
  if [ "$standalone" = 0 ] && [ -z "$token" ] && [ ! -f "$state_dir/credential.json" ]; then
    die 'no enrolment token' 'get one by: dumont machines add --workspace NAME; pass it as DUMONT_ENROL_TOKEN or --token-file'
  fi
  lock_prefix
  provide_version
  if [ "$standalone" = 0 ]; then
    join_control_plane
    write_environment
  fi
  put_in_place
  is_done=1
  say_what_next
}

lock_prefix() {
  [ "$dry_run" = 1 ] && return
  for folder in "$prefix" "${link%/*}"; do
    make_dir "$folder" 022
    [ -w "$folder" ] || die "cannot write in $folder: no permission" 'run as the user who owns it'
  done
  until mkdir "$prefix/.installing" 2>/dev/null; do
    other=$(cat "$prefix/.installing/pid" 2>/dev/null)
    [ -n "$other" ] && kill -0 "$other" 2>/dev/null &&
      die "another installation is under way (pid $other)" 'wait for it to end'
    # Left by one that was killed.
    rm -rf "$prefix/.installing"
  done
  lock=$prefix/.installing
  printf '%s\n' "$$" >"$lock/pid"
}

# Brings versions/<version>, unless it is there and whole.
provide_version() {
  version_dir=$prefix/versions/$version
  if [ -x "$version_dir/$NAME" ] && [ "$(hash_of "$version_dir/$NAME")" = "$sum" ]; then
    say "version $version is here already"
    return
  fi
  check_disk
  plan "download $downloads/$binary.gz and check it" || {
    plan "install it in $version_dir"
    return 0
  }
  make_dir "$prefix/versions" 022
  rm -rf "$prefix/versions/".new-*
  staging=$prefix/versions/.new-$$
  (umask 022 && mkdir "$staging") || die "cannot write in $prefix/versions$(why_not "$prefix/versions")" 'check its permissions'
  check_may_execute
  unpack
  check_runs
  "$staging/$NAME" host-files "$staging" >/dev/null || die 'the program could not write its own files' 'make room on the disk'
  for file in dumont-supervisor install.sh; do
    [ -x "$staging/$file" ] || die "the program lacks the file $file" 'choose another --version'
  done
  rm -rf "$version_dir"
  mv "$staging" "$version_dir" || die "cannot create $version_dir" 'check its permissions'
  staging='' new_version_dir=$version_dir
}

unpack() {
  fetch_file "$downloads/$binary.gz" "$staging/packed.gz"
  [ "$(hash_of "$staging/packed.gz")" = "$packed_sum" ] || wrong_checksum "$binary.gz"
  (umask 022 && gzip -dc <"$staging/packed.gz" >"$staging/$NAME" 2>/dev/null) || no_room
  [ "$(hash_of "$staging/$NAME")" = "$sum" ] || wrong_checksum "$binary"
  rm -f "$staging/packed.gz"
  chmod 755 "$staging/$NAME"
}

wrong_checksum() {
  die "wrong checksum of $1: it was damaged or changed on the way" 'try again; if it stays wrong, do not trust this address'
}

check_runs() {
  said=$("$staging/$NAME" --version 2>&1) && {
    [ "$said" = "$NAME $version" ] || die "the program says it is \"$said\", not $version" 'build the release anew'
    return
  }
  case $said in
    *libstdc++* | *libgcc_s*) die 'the library libstdc++ is missing' 'install it (Debian: apt-get install libstdc++6)' ;;
    *GLIBC_* | *'not found'*) die 'the C library of this system does not suit the agent' \
      "use an image with glibc 2.$GLIBC_MINOR or newer (Debian 10, Ubuntu 18.10, RHEL 8)" ;;
    *) die "the program does not run here: $(printf '%s' "$said" | head -n 1)" 'choose another --version' ;;
  esac
}

# The token goes by the environment of this one program; it holds no more afterwards than the credential it drew itself.
join_control_plane() {
  [ -n "$token" ] || return 0
  plan "enrol this machine at $url" || return 0
  was_here=0
  [ -d "$state_dir" ] && was_here=1
  make_dir "$state_dir" 077
  joined=$(DUMONT_ENROL_TOKEN=$token DUMONT_CONTROL_URL=$url DUMONT_STATE_DIR=$state_dir "$version_dir/$NAME" enrol 2>&1)
  code=$?
  joined=$(without_secrets "$joined")
  case $code in
    0) say "  $joined" ;;
    77)
      # A credential that was drawn for a token that does not count.
      [ "$was_here" = 1 ] || rm -rf "$state_dir"
      die "the control plane refused the enrolment token: $(printf '%s' "$joined" | tail -n 1)" \
      'tokens work once and expire: get another by: dumont machines add'
      ;;
    # The credential stays: with it, and only with it, the same token works again if the answer was what got lost.
    *) die "enrolment failed: $(printf '%s' "$joined" | tail -n 1)" 'the token is still good: run the same command again' ;;
  esac
}

without_secrets() {
  text=$1
  for secret in "$token" "${SNAPSHOT_PASSWORD:-}"; do
    [ -n "$secret" ] || continue
    while :; do
      case $text in
        *"$secret"*) text="${text%%"$secret"*}[hidden]${text#*"$secret"}" ;;
        *) break ;;
      esac
    done
  done
  printf '%s' "$text"
}

# Keeps the lines that are there and sets only what was asked for. Sets env_changed.
write_environment() {
  env_changed=0
  wanted=$(
    [ -r "$env_file" ] && grep -v -e '^DUMONT_CONTROL_URL=' "$env_file" | without_set_names
    env_line DUMONT_CONTROL_URL "$url"
    env_line DUMONT_WORKSPACE_DIR "$workspace_dir"
    env_line DUMONT_NVIDIA_SMI "${DUMONT_NVIDIA_SMI:-}"
    env_line DUMONT_FILE_STORE_MOUNT "${DUMONT_FILE_STORE_MOUNT:-}"
    env_line SNAPSHOT_PASSWORD "${SNAPSHOT_PASSWORD:-}"
    env_line DUMONT_LOG_LEVEL "${DUMONT_LOG_LEVEL:-}"
  ) || exit 1
  if [ -f "$env_file" ] && [ "$(cat "$env_file")" = "$wanted" ]; then return; fi
  plan "write $env_file" || return 0
  make_dir "$config_dir" 077
  [ -f "$env_file" ] || new_env_file=$env_file
  { printf '%s\n' "$wanted" >"$env_file.new" && mv -f "$env_file.new" "$env_file"; } 2>/dev/null ||
    die "cannot write $env_file$(why_not "$config_dir")" 'make room, or check its permissions'
  env_changed=1
}

without_set_names() {
  while IFS= read -r line; do
    case $line in
      DUMONT_WORKSPACE_DIR=*) [ -n "$workspace_dir" ] && continue ;;
      DUMONT_NVIDIA_SMI=*) [ -n "${DUMONT_NVIDIA_SMI:-}" ] && continue ;;
      DUMONT_FILE_STORE_MOUNT=*) [ -n "${DUMONT_FILE_STORE_MOUNT:-}" ] && continue ;;
      SNAPSHOT_PASSWORD=*) [ -n "${SNAPSHOT_PASSWORD:-}" ] && continue ;;
      DUMONT_LOG_LEVEL=*) [ -n "${DUMONT_LOG_LEVEL:-}" ] && continue ;;
    esac
    printf '%s\n' "$line"
  done
}

# NAME='value', with a quote inside as '\''. Nothing for an empty value.
env_line() {
  [ -n "$2" ] || return 0
  case $2 in *"
"*) die "$1 holds a line break" 'agent.env has one line for each value' ;; esac
  printf "%s='%s'\n" "$1" "$(printf '%s' "$2" | sed "s/'/'\\\\''/g")"
}

# From here on the machine changes what it runs.
put_in_place() {
  previous=$installed
  was_running=0 handed=0
  [ -x "$supervisor" ] && [ "$standalone" = 0 ] && "$supervisor" status >/dev/null 2>&1 && was_running=1
  if [ "$installed" = "$version" ]; then
    new_version_dir=
  elif [ "$was_running" = 1 ] && [ "$start" = 1 ]; then
    hand_to_new_version
    handed=1
  elif plan "switch $prefix/current to $version"; then
    switch_current "$version"
  fi
  place_link
  [ "$standalone" = 1 ] && return
  place_unit
  { [ "$start" = 1 ] && [ "$handed" = 0 ]; } || return 0
  if [ "$was_running" = 0 ]; then
    start_and_wait start
  elif [ "$env_changed" = 1 ]; then
    start_and_wait restart
  else
    say 'the agent runs already'
  fi
}

# Atomic where mv knows -T (GNU, busybox).
switch_current() {
  new_link=$prefix/.current.$$
  ln -s "versions/$1" "$new_link" || die "cannot create $new_link$(why_not "$prefix")" 'check its permissions'
  mv -Tf "$new_link" "$prefix/current" 2>/dev/null || {
    ln -sfn "versions/$1" "$prefix/current"
    rm -f "$new_link"
  }
  new_version_dir=
}

place_link() {
  [ "$linked" = "$prefix" ] && return
  plan "link $link" || return 0
  make_dir "${link%/*}" 022
  ln -s "$prefix/current/$NAME" "$link" || die "cannot create $link$(why_not "${link%/*}")" 'check its permissions'
}

# KillMode=process: what the agent started is the user's work and survives it. Exit 0 means that the machine is done.
unit_text() {
  cat <<UNIT
[Unit]
Description=Dumont agent: keeps the workspace of this machine alive
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=$supervisor run
ExecReload=/bin/kill -HUP \$MAINPID
Restart=always
RestartPreventExitStatus=0
RestartSec=1
KillMode=process
TimeoutStopSec=100

[Install]
WantedBy=multi-user.target
UNIT
}

place_unit() {
  has_systemd || return 0
  [ -f "$unit" ] && [ "$(cat "$unit")" = "$(unit_text)" ] && return
  plan "write $unit" || return 0
  { unit_text >"$unit.new" && chmod 644 "$unit.new" && mv -f "$unit.new" "$unit"; } || die "cannot write $unit" 'make room'
  { systemctl daemon-reload && systemctl enable --quiet $NAME; } || die 'systemd did not take the service' "see: systemctl status $NAME"
}

# The new version is on trial: the supervisor puts the old one back unless the control plane welcomes the new one.
hand_to_new_version() {
  plan "upgrade from $previous to $version; the workload runs on" || return 0
  rm -f "$state_dir/upgrade.failed"
  {
    printf 'from=%s\nto=%s\n' "$previous" "$version" >"$state_dir/upgrade.pending.new" &&
      mv -f "$state_dir/upgrade.pending.new" "$state_dir/upgrade.pending"
  } ||
    die "cannot write in $state_dir$(why_not "$state_dir")" 'make room'
  switch_current "$version"
  "$prefix/versions/$version/dumont-supervisor" restart
  waited_ds=0
  while [ -e "$state_dir/upgrade.pending" ]; do
    [ "$waited_ds" -ge $((${DUMONT_INSTALL_WAIT_S:-45} * 10)) ] &&
      die "version $version has not connected yet" "see $state_dir/log/agent.log and: $supervisor status"
    sleep 0.1
    waited_ds=$((waited_ds + 1))
  done
  now=$(readlink "$prefix/current")
  [ "${now##*/}" = "$version" ] || {
    rm -rf "$version_dir"
    # From the log: the old agent has perhaps told the control plane already, and removed upgrade.failed.
    reason=$(sed -n 's/.*"reason":"\([^"]*\)".*upgrade-failed.*/\1/p' "$state_dir/log/agent.log" | tail -n 1)
    die "version $version did not work (${reason:-see the log}); $previous runs again" "see $state_dir/log/agent.log"
  }
  remove_old_versions
}

# The version before stays, for a way back.
remove_old_versions() {
  for folder in "$prefix/versions"/*; do
    case ${folder##*/} in "$version" | "$previous") ;; *) rm -rf "$folder" ;; esac
  done
}

# $1 start or restart
start_and_wait() {
  plan "$1 the agent, and wait until the control plane welcomes it" || return 0
  log=$state_dir/log/agent.log
  seen=0
  [ -f "$log" ] && seen=$(wc -c <"$log")
  (umask "$caller_umask" && "$supervisor" "$1") || die 'the agent could not be started' "see $log"
  waited_ds=0
  until tail -c "+$((seen + 1))" "$log" 2>/dev/null | grep -q '"event":"welcomed"'; do
    if [ "$waited_ds" -ge $((${DUMONT_INSTALL_WAIT_S:-45} * 10)) ]; then
      is_done=1
      warn 'the last lines of its log:'
      without_secrets "$(tail -n 10 "$log")" >&2
      printf '\n' >&2
      die 'the agent runs, but has not reached the control plane yet' "it goes on trying; see $log, or: $NAME doctor"
    fi
    sleep 0.1
    waited_ds=$((waited_ds + 1))
  done
}

say_what_next() {
  [ "$dry_run" = 1 ] && return
  say ''
  if [ "$standalone" = 1 ]; then
    say "$NAME $version is installed: $NAME --help"
  else
    say "$NAME $version is installed."
    say "  status      $supervisor status"
    say "  log         $state_dir/log/agent.log"
    say "  trouble     $NAME doctor"
    [ "$start" = 1 ] || say "  start       $supervisor start"
    has_systemd || say "  reboots     nothing starts it by itself here; crontab: @reboot $supervisor start"
  fi
  say "  remove      $prefix/current/install.sh --uninstall"
  case :$PATH: in *:"${link%/*}":*) ;; *) say "  ${link%/*} is not in PATH" ;; esac
}

# ---- uninstalling -------------------------------------------------------------------------------------------------

uninstall() {
  if [ ! -d "$prefix/versions" ] && [ ! -d "$state_dir" ] && [ ! -d "$config_dir" ]; then
    say "nothing is installed in $prefix"
    return
  fi
  if [ "$purge" = 1 ] && [ "$assume_yes" = 0 ] && [ "$dry_run" = 0 ] && [ -t 0 ]; then
    printf 'Remove the credential, the configuration and the log of this machine as well? [y/N] ' >&2
    read -r answer
    case $answer in [yY]*) ;; *) die 'nothing was removed' 'without --purge they stay' ;; esac
  fi
  stop_agent
  record=$(cat "$prefix/made-dirs" "$state_dir/made-dirs" 2>/dev/null)
  remove_program
  if [ "$purge" = 1 ]; then
    plan "remove $config_dir and $state_dir" && rm -rf "$config_dir" "$state_dir"
  elif [ "$dry_run" = 0 ] && [ -d "$state_dir" ]; then
    printf '%s\n' "$record" >"$state_dir/made-dirs"
  fi
  [ "$dry_run" = 1 ] || remove_made_dirs "$record"
  is_done=1
  say "Left as they are: the workspace folder, a workload that runs, and the snapshots in storage."
  [ "$purge" = 1 ] || say "Also $config_dir and $state_dir (--purge removes them)."
}

stop_agent() {
  [ -x "$supervisor" ] || return 0
  plan 'stop the agent' || return 0
  "$supervisor" stop || die 'the agent does not stop' "see: $supervisor status"
}

remove_program() {
  if [ -f "$unit" ] && has_systemd && plan "remove $unit"; then
    systemctl disable --quiet $NAME
    rm -f "$unit"
    systemctl daemon-reload
  fi
  [ "$linked" = "$prefix" ] && plan "remove $link" && rm -f "$link"
  # Only what is ours by name: a mistyped prefix costs nothing.
  [ -d "$prefix/versions" ] && plan "remove $prefix" || return 0
  rm -rf "$prefix/versions" "$prefix/current" "$prefix/made-dirs" "$prefix/".current.* "$prefix/.installing"
  rmdir "$prefix" 2>/dev/null || warn "$prefix holds files of others and stays"
}

# Folders that an installation made go when they are empty, the deepest first.
remove_made_dirs() {
  printf '%s\n' "$1" | while IFS= read -r folder; do
    case $folder in /?*) rmdir "$folder" 2>/dev/null ;; esac
  done
}

# ---- the end ------------------------------------------------------------------------------------------------------

# Runs at every end. After a failure what was there before works as before, and nothing new is left.
clean_up() {
  [ -n "$staging" ] && rm -rf "$staging"
  if [ "$is_done" = 0 ] && [ -n "$new_version_dir" ]; then rm -rf "$new_version_dir" ${new_env_file:+"$new_env_file"}; fi
  [ -n "$lock" ] && rm -rf "$lock"
  if [ "$is_done" = 1 ]; then
    [ -n "$made_dirs" ] && [ -d "$prefix" ] && (printf '%s' "$made_dirs" >>"$prefix/made-dirs") 2>/dev/null
  else
    remove_made_dirs "$made_dirs"
  fi
}

main "$@"
