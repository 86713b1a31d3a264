#!/bin/sh
# dumont-supervisor: keeps one dumont-agent running where there is no init that would, or below systemd.
# A POSIX shell script (dash, busybox ash) that sleeps in `wait` and needs a few megabytes.
#
# Layout: see control-plane/docs/INSTALL.md. The environment may move it, and shorten its times for tests:
#   DUMONT_INSTALL_DIR           prefix; else the folder this script lies in, two levels up
#   DUMONT_CONFIG_DIR            folder of agent.env
#   DUMONT_STATE_DIR             folder of the pid files, the log and the agent's own state
#   DUMONT_GOOD_RUN_S      [30]  a run this long makes the next restart quick again
#   DUMONT_REFUSED_RETRY_S [60]  pause after the control plane refused the credential
#   DUMONT_UPGRADE_TRIAL_S [30]  within this time a new version must have removed upgrade.pending
#   DUMONT_STOP_LIMIT_S    [90]  an agent that was told to stop is killed after this long (its last snapshot takes time)
#   DUMONT_LOG_MAX_BYTES   [10485760]  the log is rotated at this size, three old ones are kept
#   DUMONT_LOG_CHECK_S     [10]  how often its size is looked at
set -u
caller_umask=$(umask)
umask 077

readonly FIRST_PAUSE_DS=2   # deciseconds between the first failure and the next start
readonly LONGEST_PAUSE_DS=300
readonly LAST_EXITS=5       # ends that `status` can tell of
readonly EXIT_RESTART=75    # agent/src/host/exit-codes.ts
readonly EXIT_REFUSED=77

main() {
  find_layout
  case ${1-run} in
    run) supervise ;;
    start) start_detached ;;
    stop) stop_supervisor ;;
    restart) restart_agent ;;
    status) show_status ;;
    -h | --help | help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

usage() {
  cat <<'HELP'
dumont-supervisor: keeps dumont-agent running

usage:
  dumont-supervisor            run in the foreground until the agent is done or SIGTERM comes
  dumont-supervisor start      run in the background (under systemd: start the service)
  dumont-supervisor stop       end the agent in good order, then the supervisor
  dumont-supervisor restart    a new agent process at once; the workload runs on
  dumont-supervisor status     version, pid, since when, last ends; exit 0 running, 3 not running

SIGHUP restarts the agent, SIGTERM stops it.
HELP
}

# ---- where things are ---------------------------------------------------------------------------------------------

find_layout() {
  if [ "$(id -u)" = 0 ]; then
    config_dir=/etc/dumont-agent state_dir=/var/lib/dumont-agent
  else
    home=${HOME:-/nonexistent}
    config_dir=$home/.config/dumont-agent state_dir=$home/.local/state/dumont-agent
  fi
  config_dir=${DUMONT_CONFIG_DIR:-$config_dir}
  state_dir=${DUMONT_STATE_DIR:-$state_dir}
  prefix=${DUMONT_INSTALL_DIR:-}
  if [ -z "$prefix" ]; then
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || fail 'cannot tell where this script lies: set DUMONT_INSTALL_DIR'
    prefix=${here%/versions/*}
  fi
  env_file=$config_dir/agent.env
  log=$state_dir/log/agent.log
  pending=$state_dir/upgrade.pending
  unit=/etc/systemd/system/dumont-agent.service
}

fail() {
  printf 'dumont-supervisor: %s\n' "$1" >&2
  exit 1
}

current_version() {
  target=$(readlink "$prefix/current" 2>/dev/null) || target=
  printf '%s' "${target##*/}"
}

# ---- the loop -----------------------------------------------------------------------------------------------------

supervise() {
  # `current`, through which it was started, will lead to another script some day.
  own_text=$(cat "$0")
  mkdir -p "$state_dir/log" || fail "cannot write below $state_dir"
  claim_pid_file
  agent_pid='' killer_pid='' nap_pid=''
  stopping=0 restart_asked=0 interrupted=0
  pause_ds=$FIRST_PAUSE_DS trial_since='' trial_failures=0
  trap on_term TERM INT
  # USR1 as well: a shell that was started with HUP ignored, as nohup does, cannot take it back.
  trap on_hup HUP USR1
  note supervisor.started "\"version\":\"$(current_version)\""
  end_orphan
  while [ "$stopping" = 0 ]; do
    renew_self
    begin_trial
    restart_asked=0
    run_agent
    keep_running "$agent_code" "$ran_s" || break
  done
  note supervisor.stopped "\"code\":$agent_code"
  release_pid_file
  exit 0
}

on_term() {
  stopping=1 interrupted=1
  [ -n "$nap_pid" ] && kill "$nap_pid" 2>/dev/null
  [ -n "$agent_pid" ] && stop_agent
}

# The shell itself goes on waiting for the agent.
stop_agent() {
  kill -TERM "$agent_pid" 2>/dev/null
  [ -n "$killer_pid" ] && return
  kill_late "$agent_pid" >/dev/null 2>&1 </dev/null &
  killer_pid=$!
}

kill_late() {
  trap leave TERM
  trap - HUP USR1
  nap "${DUMONT_STOP_LIMIT_S:-90}" && kill -KILL "$1"
}

# Also what a closing terminal sends: the agent starts anew and everything goes on.
on_hup() {
  interrupted=1 restart_asked=1
  [ -n "$nap_pid" ] && kill "$nap_pid" 2>/dev/null
  [ -n "$agent_pid" ] && kill -HUP "$agent_pid" 2>/dev/null
}

# One run of the agent: sets agent_code and ran_s.
run_agent() {
  rotate_log
  started_s=$(uptime_s)
  run_version=$(current_version)
  run_in_background
  printf '%s %s %s %s\n' "$agent_pid" "$(start_time "$agent_pid")" "$(now)" "$run_version" >"$state_dir/agent.pid"
  [ "$stopping" = 1 ] && stop_agent
  mind "$agent_pid" >/dev/null 2>&1 </dev/null &
  minder_pid=$!
  await_agent
  agent_pid='' # from here on a signal finds nobody to pass it to
  ran_s=$(($(uptime_s) - started_s))
  for helper in $minder_pid $killer_pid; do end_helper "$helper"; done
  killer_pid=''
  rm -f "$state_dir/agent.pid"
  remember_exit
  note supervisor.agent-ended "\"code\":$agent_code,\"ranS\":$ran_s,\"version\":\"$run_version\""
}

run_in_background() {
  (
    trap - TERM INT HUP USR1
    load_environment
    hand_over
    spare_memory
    cd / && exec "$prefix/current/dumont-agent" run
  ) </dev/null >>"$log" 2>&1 &
  agent_pid=$!
}

# A signal to this shell ends `wait` early, and the agent may end just then: the code is the last that is not 127, which
# stands for a child whose end was told before.
await_agent() {
  agent_code=127
  while :; do
    interrupted=0
    wait "$agent_pid"
    waited=$?
    [ "$waited" = 127 ] && return
    agent_code=$waited
    [ "$interrupted" = 1 ] || return
  done
}

# Decides what follows the end of a run, and waits until then. Fails when nothing does.
keep_running() {
  [ "$stopping" = 1 ] && return 1
  judge_trial "$1"
  if [ "$rolled_back" = 1 ]; then
    pause_ds=$FIRST_PAUSE_DS
    return 0
  fi
  [ "$1" = 0 ] && return 1
  [ "$2" -ge "${DUMONT_GOOD_RUN_S:-30}" ] && pause_ds=$FIRST_PAUSE_DS
  if [ "$1" = "$EXIT_REFUSED" ] && [ -z "$trial_since" ]; then
    nap "${DUMONT_REFUSED_RETRY_S:-60}"
  elif [ "$restart_asked" = 0 ] && { [ "$1" != "$EXIT_RESTART" ] || [ "$2" -lt 1 ]; }; then
    # An agent that only ever asks for a restart must not keep a core busy either.
    nap "$((pause_ds / 10)).$((pause_ds % 10))"
    pause_ds=$((pause_ds * 2))
    [ "$pause_ds" -gt "$LONGEST_PAUSE_DS" ] && pause_ds=$LONGEST_PAUSE_DS
  fi
  [ "$stopping" = 0 ]
}

# Who waits for the supervisor's end may count on nothing being left. The signal is repeated, since a shell that gets one just
# before it begins to wait misses it; and waiting for that shell could hold up the next agent for as long as it sleeps.
end_helper() {
  tries=0
  while kill "$1" 2>/dev/null && [ -n "$(start_time "$1")" ] && [ "$tries" -lt 20 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
}

# What a helper does at SIGTERM. It buries its own sleep: in many containers nobody else would, and each restart left a dead one.
leave() {
  [ -n "$nap_pid" ] && kill "$nap_pid" 2>/dev/null && wait "$nap_pid"
  exit 0
}

# Beside a running agent: keeps its log small, and ends a trial that takes too long.
mind() {
  trap leave TERM
  trap - HUP USR1
  checked_s=$(uptime_s)
  while kill -0 "$1" 2>/dev/null; do
    if [ -n "$trial_since" ]; then nap 1; else nap "${DUMONT_LOG_CHECK_S:-10}"; fi
    [ -e "$pending" ] || trial_since=''
    [ -n "$trial_since" ] && trial_is_over && kill -KILL "$1"
    if [ $(($(uptime_s) - checked_s)) -ge "${DUMONT_LOG_CHECK_S:-10}" ]; then
      rotate_log
      checked_s=$(uptime_s)
    fi
  done
}

# Takes effect only between two agents, and never while a new version is on trial: a broken script must not prevent the
# way back. The process stays the same, so that the pid file stays true.
renew_self() {
  next=$prefix/current/dumont-supervisor
  [ -e "$pending" ] && return
  { [ -f "$next" ] && [ "$(cat "$next")" != "$own_text" ] && sh -n "$next" 2>/dev/null; } || return
  note supervisor.renewed "\"version\":\"$(current_version)\""
  hand_over
  exec sh "$next" run
}

# What the next program needs to know. The umask was the caller's: what the workload creates is not for this script to hide.
hand_over() {
  export DUMONT_INSTALL_DIR="$prefix" DUMONT_CONFIG_DIR="$config_dir" DUMONT_STATE_DIR="$state_dir"
  umask "$caller_umask"
}

# The C library otherwise keeps what has been given back to it, 30 MB in an agent at rest: one arena for all threads, and
# pages of its own, of which the system has few enough, for what is larger than two. The agent takes the setting out of its
# workload's environment by the copy; one that the operator made stays, and is for both.
spare_memory() {
  [ -z "${GLIBC_TUNABLES:-}" ] || return 0
  GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=131072
  GLIBC_TUNABLES=$GLIBC_TUNABLES:glibc.malloc.mmap_threshold=8192:glibc.malloc.mmap_max=16384
  export GLIBC_TUNABLES DUMONT_OWN_TUNABLES="$GLIBC_TUNABLES"
}

# ---- upgrades: the file upgrade.pending says that the version in `current` has yet to prove itself -------------------

begin_trial() {
  if [ ! -f "$pending" ]; then
    trial_since='' trial_failures=0
    return
  fi
  trial_from=$(pending_value from) trial_to=$(pending_value to)
  if [ "$(current_version)" != "$trial_to" ]; then
    end_trial "never-switched: current is $(current_version)"
  elif [ -z "$trial_since" ]; then
    trial_since=$(uptime_s) trial_failures=0
    note supervisor.trial "\"from\":\"$trial_from\",\"to\":\"$trial_to\""
  fi
}

pending_value() {
  # Only what can be the name of a version's folder.
  sed -n "s/^$1=\([0-9][0-9A-Za-z.+-]*\)\$/\1/p" "$pending" 2>/dev/null | head -n 1
}

trial_is_over() {
  [ $(($(uptime_s) - trial_since)) -ge "${DUMONT_UPGRADE_TRIAL_S:-30}" ]
}

# Called after each end of the agent with its code; sets rolled_back.
judge_trial() {
  rolled_back=0
  { [ -n "$trial_since" ] && [ -f "$pending" ]; } || return
  if trial_is_over; then
    roll_back "not-welcomed: within ${DUMONT_UPGRADE_TRIAL_S:-30} s"
  elif [ "$1" != "$EXIT_RESTART" ] && [ "$1" != 0 ]; then
    trial_failures=$((trial_failures + 1))
    [ "$trial_failures" -ge 2 ] && roll_back "ended-twice: code $1"
  fi
}

roll_back() {
  if [ -x "$prefix/versions/$trial_from/dumont-agent" ] && switch_current "$trial_from"; then
    end_trial "$1"
    rolled_back=1
  else
    end_trial "$1; version $trial_from could not be put back"
  fi
}

end_trial() {
  # Told before the file moves, which is what others wait for.
  note supervisor.upgrade-failed "\"from\":\"$trial_from\",\"to\":\"$trial_to\",\"reason\":\"$1\""
  printf 'reason=%s\n' "$1" >>"$pending"
  mv -f "$pending" "$state_dir/upgrade.failed"
  trial_since='' trial_failures=0
}

# Atomic where mv knows -T (GNU, busybox).
switch_current() {
  ln -s "versions/$1" "$prefix/.current.$$" || return 1
  mv -Tf "$prefix/.current.$$" "$prefix/current" 2>/dev/null && return
  ln -sfn "versions/$1" "$prefix/current" && rm -f "$prefix/.current.$$"
}

# ---- the agent's environment --------------------------------------------------------------------------------------

# Reads NAME='value' lines (the value may go without quotes, a quote inside is '\''), and exports them. Values are data:
# nothing in them is expanded or run.
load_environment() {
  [ -r "$env_file" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    name=${line%%=*}
    case $line in *=*) ;; *) continue ;; esac
    case $name in
      '' | [0-9]* | *[!A-Z0-9_]*) continue ;;
      # What this shell lives by, or what would run code of another in the agent.
      IFS | PATH | ENV | PPID | UID | EUID | OPTIND | PS[0-9] | BASH* | SHELL* | LD_* | NODE_OPTIONS) continue ;;
    esac
    unquote "${line#*=}"
    export "$name=$unquoted"
  done <"$env_file"
}

unquote() {
  unquoted=$1
  case $1 in
    \'*\') ;;
    *) return ;;
  esac
  rest=${1#\'}
  rest=${rest%\'}
  unquoted=
  while :; do
    case $rest in
      *"'\\''"*)
        unquoted="$unquoted${rest%%"'\\''"*}'"
        rest=${rest#*"'\\''"}
        ;;
      *) break ;;
    esac
  done
  unquoted=$unquoted$rest
}

# ---- log ----------------------------------------------------------------------------------------------------------

# In the agent's own form, so that one reader suffices. $1 event, $2 further fields: constants, numbers and versions.
note() {
  printf '{"level":30,"time":%s000,"name":"supervisor","pid":%s,%s,"event":"%s"}\n' "$(date +%s)" "$$" "$2" "$1" \
    >>"$log" 2>/dev/null
}

# By copying and cutting: the agent holds the file open for appending and goes on in it. What it writes in between is lost.
rotate_log() {
  [ -f "$log" ] || return 0
  [ "$(wc -c <"$log")" -gt "${DUMONT_LOG_MAX_BYTES:-10485760}" ] || return 0
  mv -f "$log.2" "$log.3" 2>/dev/null
  mv -f "$log.1" "$log.2" 2>/dev/null
  # A full disk keeps no copy; the log must become small nevertheless.
  cp "$log" "$log.1" 2>/dev/null || rm -f "$log.1"
  : >"$log"
}

remember_exit() {
  exits=$state_dir/supervisor.exits
  printf '%s code=%s ran=%ss version=%s\n' "$(now)" "$agent_code" "$ran_s" "$run_version" >>"$exits"
  tail -n "$LAST_EXITS" "$exits" >"$exits.new" && mv -f "$exits.new" "$exits"
}

# ---- processes ----------------------------------------------------------------------------------------------------

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# Seconds since boot: unlike the clock it never jumps.
uptime_s() {
  read -r up _ </proc/uptime
  printf '%s' "${up%.*}"
}

# Sleeps so that a signal can end it.
nap() {
  sleep "$1" &
  nap_pid=$!
  wait "$nap_pid"
  napped=$?
  nap_pid=''
  return "$napped"
}

# The start time of a process tells it from a later one with the same pid. Empty for one that is gone, or that nobody
# has buried yet: in many containers the first process never does.
start_time() {
  stat_line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # shellcheck disable=SC2086 # numbers and one letter, after the name in parentheses
  set -- ${stat_line##*) }
  case $1 in
    Z | X) ;;
    *) printf '%s' "${20}" ;;
  esac
}

# Is the process of this pid file alive? Sets holder. $2: what its command line must hold, for a boot that repeats pids.
is_alive() {
  holder='' holder_start='' holder_since='' holder_version=''
  [ -f "$1" ] && read -r holder holder_start holder_since holder_version <"$1"
  case $holder in '' | *[!0-9]*) return 1 ;; esac
  if [ -z "$holder_start" ] || [ "$(start_time "$holder")" != "$holder_start" ]; then return 1; fi
  tr '\0' ' ' <"/proc/$holder/cmdline" 2>/dev/null | grep -q -e "$2"
}

pid_file() { printf '%s' "$state_dir/supervisor.pid"; }

supervisor_is_alive() { is_alive "$(pid_file)" dumont-supervisor; }

# One supervisor only. The lock is held for a moment, while the pid file is looked at and written.
claim_pid_file() {
  tries=0
  until mkdir "$state_dir/supervisor.lock" 2>/dev/null; do
    tries=$((tries + 1))
    # Nobody holds it that long: it was left by one that was killed.
    [ "$tries" -gt 30 ] && rmdir "$state_dir/supervisor.lock" 2>/dev/null
    [ "$tries" -gt 40 ] && fail "cannot write in $state_dir"
    sleep 0.1
  done
  if supervisor_is_alive && [ "$holder" != "$$" ]; then
    rmdir "$state_dir/supervisor.lock"
    fail "already running as pid $holder"
  fi
  printf '%s %s %s\n' "$$" "$(start_time "$$")" "$(now)" >"$(pid_file)"
  rmdir "$state_dir/supervisor.lock"
}

release_pid_file() { rm -f "$(pid_file)"; }

# An agent whose supervisor was killed: this one cannot wait for it, so it is asked to leave for a new one.
end_orphan() {
  is_alive "$state_dir/agent.pid" dumont-agent || return 0
  note supervisor.orphan "\"agentPid\":$holder"
  end_process HUP 50 "$state_dir/agent.pid" dumont-agent || kill -KILL "$holder" 2>/dev/null
}

# Sends the signal, and fails when the process of the pid file lives on for so many deciseconds.
end_process() {
  is_alive "$3" "$4" || return 0
  kill "-$1" "$holder" || return 1
  waited_ds=0
  # By the process, not the file: that goes a moment earlier.
  while [ "$(start_time "$holder")" = "$holder_start" ]; do
    [ "$waited_ds" -ge "$2" ] && return 1
    sleep 0.1
    waited_ds=$((waited_ds + 1))
  done
}

# ---- subcommands --------------------------------------------------------------------------------------------------

under_systemd() { [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && [ -f "$unit" ]; }

# A session of its own, and none of the caller's files: the shell that started it may end.
start_detached() {
  supervisor_is_alive && return 0
  if under_systemd; then
    systemctl start dumont-agent
    return
  fi
  (
    hand_over
    unset DUMONT_ENROL_TOKEN
    cd / || exit
    set -- "$prefix/current/dumont-supervisor" run
    # Where there is no setsid, the trap on HUP outlives the terminal.
    command -v setsid >/dev/null 2>&1 && set -- setsid "$@"
    exec "$@" </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
  ) &
  waited_ds=0
  until supervisor_is_alive; do
    [ "$waited_ds" -ge 100 ] && fail "did not come up within 10 s; see $log"
    sleep 0.1
    waited_ds=$((waited_ds + 1))
  done
}

stop_supervisor() {
  if under_systemd && systemctl is-active --quiet dumont-agent; then
    systemctl stop dumont-agent
    return
  fi
  limit_s=${DUMONT_STOP_LIMIT_S:-90}
  end_process TERM $(((limit_s + 5) * 10)) "$(pid_file)" dumont-supervisor || fail "pid $holder does not end"
  # Without its supervisor an agent may still be there.
  end_process TERM $((limit_s * 10)) "$state_dir/agent.pid" dumont-agent || kill -KILL "$holder"
}

restart_agent() {
  if supervisor_is_alive; then kill -USR1 "$holder"; else start_detached; fi
}

show_status() {
  code=3
  printf 'version      %s\n' "$(current_version)"
  if supervisor_is_alive; then
    code=0
    printf 'supervisor   pid %s since %s\n' "$holder" "$holder_since"
  else
    printf 'supervisor   not running\n'
  fi
  if is_alive "$state_dir/agent.pid" dumont-agent; then
    printf 'agent        pid %s since %s, version %s\n' "$holder" "$holder_since" "$holder_version"
  else
    printf 'agent        not running\n'
  fi
  [ -f "$pending" ] && printf 'upgrade      to %s is on trial\n' "$(pending_value to)"
  [ -f "$state_dir/upgrade.failed" ] && printf 'upgrade      %s\n' "$(sed -n 's/^reason=/failed: /p' "$state_dir/upgrade.failed")"
  [ -f "$state_dir/supervisor.exits" ] && sed 's/^/last end     /' "$state_dir/supervisor.exits"
  exit "$code"
}

main "$@"
