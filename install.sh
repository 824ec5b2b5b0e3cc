#!/bin/sh
# Installs DaemonGuard as a systemd service (root: of the system, else: of the user who runs it), or removes it. `./install.sh --help` says how; --dry-run shows every step.
# Safe to run again: it upgrades, puts the old version back if the new one does not become healthy, and never touches an existing
# configuration or data. `daemonguard service install` runs this very script, out of the executable.
set -eu

name=daemonguard
user=daemonguard
bin_dir=/usr/local/bin
config_dir=/etc/daemonguard
data_dir=/var/lib/daemonguard
cache_dir=/var/cache/daemonguard
run_dir=/run/daemonguard
unit_dir=/etc/systemd/system
healthy_within=60
of_user=no

here=$(cd "$(dirname "$0")" && pwd)
action=install
dry_run=no
purge=no
root=''
executable=''
sha256=''
unfinished=''
download=''

usage() {
  cat <<'EOF'
install.sh [FILE]              install or upgrade, then start and wait until it is healthy
install.sh --uninstall         remove program and service; keep data and configuration
install.sh --uninstall --purge remove those too

FILE is the daemonguard executable; default: beside this script, then dist/daemonguard. It may be a URL, with --sha256.
An upgrade that does not become healthy is taken back by itself. The engine goes on through all of it; only its own restart
(daemonguard stop --engine) brings it to the new version.

  --sha256 HEX the executable's SHA-256; needed for a URL

  --root DIR   put the files under DIR (an image, a package) and stop there: no user, no service, no root needed
  --dry-run    print what would be done, change nothing
  --help       this text

As root it installs /usr/local/bin/daemonguard, /etc/daemonguard/config.yaml (never overwritten), /var/lib/daemonguard (data) and
the unit daemonguard.service, which runs as the user daemonguard. As anybody else: ~/.local/bin/daemonguard,
~/.config/daemonguard/config.yaml, ~/.local/share/daemonguard and a unit of your own (systemctl --user).
EOF
}

say() { printf '%s\n' "$*"; }

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2
  exit 1
}

usage_error() {
  printf 'install.sh: %s\n  hint: install.sh --help\n' "$1" >&2
  exit 2
}

# Every change goes through here, so that --dry-run shows exactly what would be done.
run() {
  if [ "$dry_run" = no ]; then
    "$@"
  elif [ "$1" = ctl ]; then
    shift
    say "would run: $(ctl_text "$@")"
  else
    say "would run: $*"
  fi
}

# put_file MODE DESTINATION: standard input becomes the file, whole or not at all.
put_file() {
  if [ "$dry_run" = yes ]; then
    cat >/dev/null
    say "would write: $2 ($1)"
    return
  fi
  cat >"$2.new"
  chmod "$1" "$2.new"
  mv -f "$2.new" "$2"
}

# own USER:GROUP FILE…: nothing to give away in a --root.
own() {
  [ -n "$root" ] || run chown "$@"
}

clean_up() {
  [ -z "$unfinished" ] || rm -rf "$unfinished"
  [ -z "$download" ] || rm -rf "$download"
}

# systemctl, of the system or of the user.
ctl() {
  if [ "$of_user" = yes ]; then systemctl --user "$@"; else systemctl "$@"; fi
}

ctl_text() {
  if [ "$of_user" = yes ]; then say "systemctl --user $*"; else say "systemctl $*"; fi
}

has_systemd() {
  [ -z "$root" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1 || return 1
  [ "$of_user" = no ] || systemctl --user show-environment >/dev/null 2>&1
}

# The command line of a program that has no default place for its configuration.
program() {
  if [ "$of_user" = yes ]; then say "$bin_dir/$name $* -c $config_dir/config.yaml"; else say "$name $*"; fi
}

# As the service's user, with a cache of its own that goes away: the program unpacks its libraries there.
as_service_user() {
  if [ "$of_user" = yes ]; then
    env "XDG_CACHE_HOME=$unfinished/cache" "$@"
  elif command -v runuser >/dev/null 2>&1; then
    runuser -u "$user" -- env "XDG_CACHE_HOME=$unfinished/cache" "$@"
  else
    # The program and its arguments are ours and hold no blank.
    su -s /bin/sh "$user" -c "XDG_CACHE_HOME=$unfinished/cache $*"
  fi
}

parse_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --dry-run) dry_run=yes ;;
      --uninstall) action=uninstall ;;
      --purge) purge=yes ;;
      --root)
        [ $# -ge 2 ] || usage_error '--root needs a directory'
        root=${2%/}
        shift
        ;;
      --root=*) root=${1#--root=} && root=${root%/} ;;
      --sha256)
        [ $# -ge 2 ] || usage_error '--sha256 needs a checksum'
        sha256=$2
        shift
        ;;
      -*) usage_error "unknown option $1" ;;
      *)
        [ -z "$executable" ] || usage_error "one executable is enough: $executable, not also $1"
        executable=$1
        ;;
    esac
    shift
  done
  [ "$purge" = no ] || [ "$action" = uninstall ] || usage_error '--purge belongs to --uninstall'
  case $root in
    '' | /*) ;;
    *) usage_error "--root needs an absolute path, not $root" ;;
  esac
}

require_linux() {
  [ "$(uname -s)" = Linux ] || fail "this installs on Linux, not on $(uname -s)"
}

# Without root it is a service of this user, in the places that the XDG base directory specification and systemd give to users.
choose_places() {
  if [ -n "$root" ] || [ "$(id -u)" -eq 0 ]; then return 0; fi
  of_user=yes
  user=$(id -un)
  [ -d "${HOME:-}" ] || fail 'HOME names no directory' "as root it becomes a service of the system: sudo $0"
  case $HOME in
    *[[:space:]#]*) fail "systemd cannot start a program below $HOME" "as root it becomes a service of the system: sudo $0" ;;
  esac
  config_home=${XDG_CONFIG_HOME:-$HOME/.config}
  bin_dir=$HOME/.local/bin
  config_dir=$config_home/$name
  unit_dir=$config_home/systemd/user
  data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/$name
  cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/$name
  run_dir=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/$name
}

# The unit for this user's own systemd, which has no users to change to, and cannot wall anything off.
user_unit() {
  printf '%s\n' "$unit" | sed \
    -e '/^User=/d' -e '/^Group=/d' -e '/^StateDirectory/d' -e '/^CacheDirectory/d' -e '/^After=local-fs/d' \
    -e '/^# It may write to its own directories only/,/^SystemCallErrorNumber=/d' \
    -e "s#/usr/local/bin/#$bin_dir/#g" -e "s#/etc/$name/#$config_dir/#g" -e 's/^WantedBy=.*/WantedBy=default.target/'
}

# A URL becomes a file that its checksum vouches for; the connection need not be trusted then.
fetch_executable() {
  case $executable in
    http://* | https://*) ;;
    *) return 0 ;;
  esac
  [ -n "$sha256" ] || usage_error 'a URL needs --sha256: the line of SHA256SUMS that ends in daemonguard'
  if [ "$dry_run" = yes ]; then
    say "would download: $executable"
    say "would check that its SHA-256 is $sha256"
    return
  fi
  download=$(mktemp -d)
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL -o "$download/$name" "$executable" || fail "cannot download $executable"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -O "$download/$name" "$executable" || fail "cannot download $executable"
  else
    fail 'neither curl nor wget is here' "download it by other means, then: install.sh FILE --sha256 $sha256"
  fi
  chmod 0755 "$download/$name"
  executable=$download/$name
}

check_sum() {
  [ -n "$sha256" ] || return 0
  found=$(sha256sum "$executable" | cut -d ' ' -f 1)
  [ "$found" = "$sha256" ] || fail "$executable is not the file that --sha256 names: its SHA-256 is $found" 'download it again'
}

find_executable() {
  if [ -z "$executable" ]; then
    for candidate in "$here/$name" "$here/dist/$name"; do
      [ ! -f "$candidate" ] || { executable=$candidate && break; }
    done
  fi
  [ -n "$executable" ] || fail "no $name executable beside this script or in dist/" 'npm ci && npm run build, or name the file: install.sh FILE'
  fetch_executable
  case $executable in
    http://* | https://*) ;; # a dry run
    *)
      [ -f "$executable" ] || fail "$executable is not a file"
      check_sum
      ;;
  esac
  sums=$(dirname "$executable")/SHA256SUMS
  if [ -f "$sums" ] && [ "$(basename "$executable")" = "$name" ]; then
    wanted=$(sed -n "s/^\([0-9a-f]\{64\}\)  $name\$/\1/p" "$sums")
    found=$(sha256sum "$executable" | cut -d ' ' -f 1)
    [ "$wanted" = "$found" ] || fail "$executable is not the file that $sums names: its SHA-256 is $found" 'copy it again, or build it again: npm run build'
  fi
  # Out of the executable (daemonguard service install), the unit comes with it.
  unit=${DAEMONGUARD_UNIT:-}
  for candidate in "$here/$name.service" "$here/build/$name.service"; do
    [ -n "$unit" ] || [ ! -f "$candidate" ] || unit=$(cat "$candidate")
  done
  [ -n "$unit" ] || fail "no $name.service beside this script or in build/"
  [ "$of_user" = no ] || unit=$(user_unit)
}

create_user() {
  if [ -n "$root" ] || [ "$of_user" = yes ]; then return 0; fi
  if ! getent group "$user" >/dev/null; then run groupadd --system "$user"; fi
  if ! getent passwd "$user" >/dev/null; then
    run useradd --system --gid "$user" --home-dir "$data_dir" --no-create-home --shell /usr/sbin/nologin "$user"
  fi
}

create_directories() {
  run mkdir -p "$root$bin_dir" "$root$config_dir" "$root$data_dir" "$root$unit_dir"
  run chmod 0700 "$root$data_dir"
  [ "$of_user" = no ] || { run chmod 0700 "$config_dir" && return 0; }
  run chmod 0750 "$root$config_dir"
  own "$user:$user" "$root$data_dir"
  own "root:$user" "$root$config_dir"
}

write_config() {
  config=$root$config_dir/config.yaml
  if [ -e "$config" ]; then
    say "kept: $config"
    return
  fi
  members="members of the group $user"
  [ "$of_user" = no ] || members="$user alone"
  put_file 0640 "$config" <<EOF
# DaemonGuard. Every key and its default: config.example.yaml. After a change: $(program check) && $(ctl_text restart $name)
agent:
  data_dir: $data_dir
engine:
  # psql -h $run_dir -p 5433, for ${members}; and 127.0.0.1:5433
  socket_dir: $run_dir
plugins: {}
EOF
  [ "$of_user" = yes ] || own "root:$user" "$config"
}

make_run_dir() {
  if [ "$of_user" = no ]; then
    install -d -m 0750 -o "$user" -g "$user" "$run_dir"
  elif ! mkdir -p "$run_dir" 2>/dev/null; then
    fail "the directory for the socket cannot be made: $run_dir" 'log in on a console or by ssh, so that the system makes a runtime directory for you (XDG_RUNTIME_DIR)'
  fi
}

# The new program reads the configuration before anything of the old one is replaced.
install_executable() {
  target=$root$bin_dir/$name
  if [ "$dry_run" = yes ]; then
    say "would copy: $executable to $target"
    [ -n "$root" ] || say "would check first, with the new executable: $config_dir/config.yaml"
    return
  fi
  unfinished=$(mktemp -d "$root$bin_dir/.$name.XXXXXX")
  chmod 0755 "$unfinished"
  cp "$executable" "$unfinished/$name"
  chmod 0755 "$unfinished/$name"
  version=$(XDG_CACHE_HOME=$unfinished/cache "$unfinished/$name" --version) || fail "$executable does not run on this machine"
  if [ -z "$root" ]; then
    rm -rf "$unfinished/cache"
    mkdir "$unfinished/cache"
    [ "$of_user" = yes ] || chown "$user:$user" "$unfinished/cache"
    [ -d "$run_dir" ] || make_run_dir
    as_service_user "$unfinished/$name" check -c "$config_dir/config.yaml" ||
      fail "$version refuses $config_dir/config.yaml; nothing was replaced" "correct it, then run install.sh again"
  fi
  # What an upgrade replaces is kept until the new version is healthy.
  if [ -z "$root" ] && [ -f "$target" ] && [ -f "$unit_dir/$name.service" ]; then
    previous=$unfinished/previous
    mkdir "$previous"
    ln "$target" "$previous/$name"
    cp -p "$unit_dir/$name.service" "$previous/"
  fi
  mv -f "$unfinished/$name" "$target"
  say "installed: $target, version $version"
}

start_service() {
  printf '%s\n' "$unit" | put_file 0644 "$root$unit_dir/$name.service"
  [ -z "$root" ] || return 0
  if ! has_systemd; then
    if [ "$of_user" = yes ]; then
      say "No systemd of the user $user can be reached, so no service was started. Run the agent under the supervisor that you have:"
      say "  $(program run)"
      return
    fi
    say "This machine runs no systemd, so no service was started. Run the agent under the supervisor that it has, as the user $user:"
    say "  install -d -m 0750 -o $user -g $user $run_dir     (after each boot)"
    say "  su -s /bin/sh $user -c '$bin_dir/$name run -c $config_dir/config.yaml'"
    return
  fi
  run ctl daemon-reload
  run ctl enable --quiet "$name"
  if [ "$dry_run" = yes ]; then
    run ctl restart "$name"
  elif restart_service; then
    say "$status"
    say "running: $(ctl_text status $name); psql -h 127.0.0.1 -p 5433; $(program status)"
    if [ "$of_user" = yes ] && [ "$(loginctl show-user "$user" --property=Linger --value 2>/dev/null)" != yes ]; then
      say "It ends with your last session. So that it goes on, and starts with the machine: loginctl enable-linger $user"
    fi
  else
    printf '%s\n' "$status" >&2
    if [ "$of_user" = yes ]; then journalctl --user -u "$name" -n 20 --no-pager >&2 || true; else journalctl -u "$name" -n 20 --no-pager >&2 || true; fi
    [ -n "${previous:-}" ] || fail "$name was installed, but it is not healthy; above is why" "$(ctl_text status $name); $(program status)"
    roll_back
  fi
}

roll_back() {
  say 'the new version does not become healthy: the old one is put back'
  mv -f "$previous/$name" "$bin_dir/$name"
  mv -f "$previous/$name.service" "$unit_dir/$name.service"
  ctl daemon-reload
  if restart_service; then
    fail "the upgrade to $version failed, above is why; the version before it runs again, healthy"
  fi
  printf '%s\n' "$status" >&2
  fail "the upgrade to $version failed, and the version before it, which was put back, is not healthy either" "$(ctl_text status $name); $(program status)"
}

# Restarts the service and waits until it is healthy; $status is what it says of itself.
restart_service() {
  status="$(ctl_text restart $name) failed"
  ctl restart "$name" || return 1
  wait_until_healthy
}

wait_until_healthy() {
  waited=0
  until status=$("$bin_dir/$name" status -c "$config_dir/config.yaml" 2>&1); do
    [ "$waited" -lt "$healthy_within" ] || return 1
    [ "$(ctl is-failed "$name")" != failed ] || return 1
    sleep 1
    waited=$((waited + 1))
  done
}

uninstall() {
  if has_systemd && [ -f "$unit_dir/$name.service" ]; then run ctl disable --now --quiet "$name"; fi
  if [ -z "$root" ] && [ -x "$bin_dir/$name" ] && [ -f "$config_dir/config.yaml" ]; then
    # The engine outlives its agent. It is stopped by its own command, which checkpoints first.
    run "$bin_dir/$name" stop --engine -c "$config_dir/config.yaml" ||
      fail 'the engine could not be stopped; nothing was removed' "$(program stop --engine); then run install.sh --uninstall again"
  fi
  run rm -rf "$root$bin_dir/$name" "$root$unit_dir/$name.service" "$root$cache_dir" "$root$run_dir"
  if has_systemd; then run ctl daemon-reload; fi
  if [ "$purge" = no ]; then
    say "kept: $root$data_dir and $root$config_dir (install.sh --uninstall --purge removes them)"
    return
  fi
  run rm -rf "$root$data_dir" "$root$config_dir"
  if [ -z "$root" ] && [ "$of_user" = no ]; then
    if getent passwd "$user" >/dev/null; then
      run userdel "$user" || fail "everything was removed but the user $user, under which something still runs" "ps -u $user; then userdel $user"
    fi
    if getent group "$user" >/dev/null; then run groupdel "$user"; fi
  fi
}

parse_arguments "$@"
require_linux
choose_places
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ "$action" = uninstall ]; then
  uninstall
else
  find_executable
  create_user
  create_directories
  write_config
  install_executable
  start_service
fi
