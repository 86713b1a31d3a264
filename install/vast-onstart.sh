#!/bin/sh
# The onstart script of a Vast.ai instance, which runs at each start of the container: starts the agent, and installs it
# the first time. Needs DUMONT_CONTROL_URL and DUMONT_ENROL_TOKEN in the container's environment. A container's disk outlives
# its restarts, so the token is needed once only.
supervisor=/opt/dumont-agent/current/dumont-supervisor
log=/var/log/dumont-onstart.log

fetch() {
  if command -v curl >/dev/null 2>&1; then curl -fsSL "$1"; else wget -q -O - "$1"; fi
}

# Images made for computing often have neither.
have_fetcher() {
  command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 && return
  command -v apt-get >/dev/null 2>&1 || return
  apt-get update -qq && apt-get install -y -qq --no-install-recommends curl ca-certificates
}

start_agent() {
  umask 022
  [ -x "$supervisor" ] && [ -f /var/lib/dumont-agent/credential.json ] && "$supervisor" start && return
  # The network of a fresh container may need a moment.
  for pause in 1 2 5 10 20 30; do
    have_fetcher && script=$(fetch "$DUMONT_CONTROL_URL/install.sh") && [ -n "$script" ] && break
    sleep "$pause"
  done
  printf '%s\n' "$script" | sh -s -- --yes
}

# In the background: what else the container starts does not wait for it.
: "${DUMONT_CONTROL_URL:?}"
start_agent </dev/null >>"$log" 2>&1 &
