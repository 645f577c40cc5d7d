# The device's side of `ingot snapshot pull`, run by the device's own sh as root. It reads commands
# from stdin, answers on stdout, and leaves nothing behind. docs/formats/pull-protocol.md says what
# it speaks. Only POSIX sh: dash, bash and busybox ash run it.
LC_ALL=C
export LC_ALL
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 077
set -f

say() { printf 'INGOT %s\n' "$*"; }

has() { command -v "$1" >/dev/null 2>&1; }

# The process id of the (sub)shell that calls it; $$ is always the first shell's.
own_pid() { exec sh -c 'echo "$PPID"'; }

text() {
  say text "${#1}"
  printf '%s\n' "$1"
}

# --- the guard: freezes, and thaws whatever happens ---------------------------------------------

# Begins a sleep that `rest` waits for, and that a signal's trap ends. Every flag that a trap sets is
# looked at between the two, so that no signal is slept over. The sleep must hold no mount, nor the
# stream: sshd waits for everybody who could still write to it.
doze() {
  sleep 1 >/dev/null 5<&- 6<&- 7<&- 8<&- 9<&- &
  sleeper=$!
}

rest() {
  wait $sleeper
  sleeper=
}

wake() { [ -z "$sleeper" ] || kill -KILL "$sleeper" 2>/dev/null; }

begin_guard() {
  missed=0 go=0 over=0 sleeper=
  trap 'missed=0 go=1; wake' USR1
  trap 'over=1; wake' USR2
  trap '' HUP INT QUIT TERM PIPE
  exec </dev/null 2>/dev/null 3>&-
  say guarded
  doze
  while [ $go = 0 ] && [ $over = 0 ] && [ $missed -lt 30 ]; do
    rest
    missed=$((missed + 1))
    doze
  done
  wake
  [ $go = 1 ] && [ $over = 0 ]
}

# Returns when the freeze is to end; fails when it must end because no beat came.
hold_on() {
  missed=0
  doze
  while [ $over = 0 ]; do
    rest
    missed=$((missed + 1))
    [ $missed -lt 5 ] || [ $over = 1 ] || return 1
    doze
  done
  wake
}

thaw_mounts() {
  thawed=0
  for fd in 5 6 7 8 9; do
    [ $fd -lt $((5 + frozen)) ] || break
    problem=$(fsfreeze --unfreeze /proc/self/fd/$fd 2>&1) || thawed=1
  done
  return $thawed
}

# Opens a mount point as the next descriptor, if it is the mount that was meant.
open_mount() {
  fd=$((5 + opened))
  eval "exec $fd< \"\$2\"" || return 1
  opened=$((opened + 1))
  while read -r key value; do
    [ "$key" = mnt_id: ] && [ "$value" = "$1" ] && return 0
  done < "/proc/self/fdinfo/$fd"
  return 1
}

guard_mounts() {
  opened=0 frozen=0
  for mount in "$@"; do
    if ! open_mount "${mount%% *}" "${mount#* }" 2>/dev/null; then
      say not-frozen failed "${mount#* } is not the filesystem that was meant"
      exit 1
    fi
  done
  begin_guard || exit 1
  while [ $frozen -lt $opened ]; do
    if ! problem=$(fsfreeze --freeze /proc/self/fd/$((5 + frozen)) 2>&1); then
      why=failed
      case $problem in *busy*) why=busy ;; esac
      reason=$problem
      thaw_mounts
      say not-frozen $why "$reason"
      exit 1
    fi
    frozen=$((frozen + 1))
  done
  say frozen -
  hold_on
  kept=$?
  if thaw_mounts; then answer=thawed; else answer="not-thawed $problem"; fi
  [ $kept = 0 ] || end_session
  say "$answer"
}

guard_lvm() {
  name=ingot_$(own_pid)
  begin_guard || exit 1
  if ! problem=$(lvcreate --yes --snapshot --addtag ingot --name "$name" --extents "$3" "$1/$2" 2>&1 5>&-)
  then
    drop_volume "$1/$name"
    say not-frozen failed "$(printf '%s' "$problem" | tr '\n' ' ')"
    exit 1
  fi
  say frozen "/dev/$1/$name"
  hold_on
  kept=$?
  # A snapshot that ran full is no snapshot any more; its reads fail, and so does the state here.
  answer=thawed
  case $(lvs --noheadings -o lv_attr "$1/$name" 2>/dev/null) in
    *[sS]??[iI]*) answer='not-thawed the LVM snapshot ran full' ;;
  esac
  drop_volume "$1/$name" || answer="not-thawed the LVM snapshot $1/$name could not be removed"
  [ $kept = 0 ] || end_session
  say "$answer"
}

# A reader may still have it open for a moment.
drop_volume() {
  tries=0
  until lvremove --force --yes "$1" >/dev/null 2>&1; do
    lvs "$1" >/dev/null 2>&1 || return 0
    tries=$((tries + 1))
    [ $tries -lt 20 ] || return 1
    sleep 1
  done
}

# Without the reader of commands the session ends, and the workstation sees that it was cut.
end_session() {
  kill -KILL "$reader" 2>/dev/null
  exit 1
}

# --- the reader: takes lines, feeds the guard, hands the rest on ----------------------------------

read_commands() {
  reader=$(own_pid)
  guard='' held='' volume='' opened=0
  trap '' HUP INT QUIT PIPE
  while IFS= read -r line; do
    case $line in
      beat)
        [ -z "$held" ] || beat_guard || break
        # Handed on as well: when the worker has failed, this write does, and the session ends.
        printf 'beat\n' || break
        ;;
      'hold '*) start_mount_guard "${line#hold }" || break ;;
      'hold-lvm '*)
        # The parts of this line are names and a number, none with a blank.
        # shellcheck disable=SC2086
        set -- ${line#hold-lvm }
        guard_lvm "$@" >&3 &
        guard=$! volume=$1/ingot_$!
        ;;
      go)
        held=$guard
        kill -USR1 "$guard" 2>/dev/null
        ;;
      thaw)
        kill -USR2 "$guard" 2>/dev/null
        wait "$guard"
        guard='' held='' volume=''
        close_mounts
        ;;
      *) printf '%s\n' "$line" || break ;;
    esac
    [ "$line" != end ] || break
  done
  [ -z "$guard" ] || kill -USR2 "$guard" 2>/dev/null
}

close_mounts() { exec 5<&- 6<&- 7<&- 8<&- 9<&-; }

start_mount_guard() {
  count=$1
  set --
  while [ $# -lt "$count" ]; do
    IFS= read -r mount || return 1
    set -- "$@" "$mount"
  done
  guard_mounts "$@" >&3 &
  guard=$!
  # What thaws if the guard is killed: the same mounts, by descriptors of our own.
  opened=0
  for mount in "$@"; do open_mount "${mount%% *}" "${mount#* }" 2>/dev/null || :; done
}

# kill reaches a dead child as long as nobody asked for its status, so its state is looked at.
guard_lives() {
  { read -r facts < "/proc/$guard/stat"; } 2>/dev/null || return 1
  case $facts in *') Z '* | *') X '*) return 1 ;; esac
}

# A guard that was killed cannot thaw; we hold the same mounts. One that ended by itself has thawed,
# or has frozen nothing: what is frozen then is somebody else's.
beat_guard() {
  if guard_lives; then
    kill -USR1 "$guard" 2>/dev/null
    return 0
  fi
  wait "$guard"
  if [ $? -gt 128 ]; then
    frozen=$opened
    thaw_mounts
    [ -z "$volume" ] || drop_volume "$volume"
  fi
  guard=''
  return 1
}

# --- the worker: answers one command after the other --------------------------------------------

work() {
  sent=0 device='' flags='' log='' turn=0
  worker=$(own_pid)
  trap 'drop_log; exit 1' HUP INT TERM PIPE
  while IFS= read -r line; do
    case $line in
      beat) ;;
      'look '*) look "${line#look }" ;;
      'open '*) open_device "${line#open }" ;;
      'sync '*)
        # Only this filesystem, where sync can.
        sync -f "${line#sync }" 2>/dev/null || sync
        say ok
        ;;
      provides)
        # Nothing where there is no Mender client, or where it knows nothing.
        text "$({ mender-update show-provides || mender show-provides; } </dev/null 2>/dev/null)"
        ;;
      flush)
        blockdev --flushbufs "$device" || fail "$device: its page cache cannot be dropped"
        say ok
        ;;
      'read '*)
        # Numbers and one word, none with a blank.
        # shellcheck disable=SC2086
        read_ranges ${line#read }
        ;;
      track) track ;;
      changes) changes ;;
      'sums '*)
        # shellcheck disable=SC2086
        sum_groups ${line#sums }
        ;;
      end)
        drop_log
        say bye "$sent"
        return
        ;;
      *) fail "unknown command: $line" ;;
    esac
  done
  drop_log
  exit 1
}

fail() {
  printf 'ingot: %s\n' "$*" >&2
  drop_log
  exit 1
}

look() {
  found=
  for tool in dd blockdev fsfreeze sync gzip pigz zstd sha256sum b2sum lvcreate; do
    has $tool && found="$found $tool"
  done
  number=- kind=missing path=$1
  if [ -b "$1" ]; then
    kind=device
    path=$(readlink -f "$1")
    number=$(device_number "$path")
  elif [ -d "$1" ]; then
    kind=folder
    path=$(cd -P -- "$1" && pwd -P)
  elif [ -e "$1" ]; then
    kind='file'
  fi
  read -r boot < /proc/sys/kernel/random/boot_id
  text "uid $(id -u)
boot $boot
arch $(uname -m)
tools$found
kind $kind
path $path
number $number
$(blocks)
$(volumes "$path")
mounts
$(cat /proc/self/mountinfo)"
}

# ls prints "major, minor" of a device in its fifth and sixth column.
device_number() {
  # The columns of ls are wanted one by one.
  # shellcheck disable=SC2046
  set -- $(ls -ldLn "$1")
  printf '%s:%s\n' "${5%,}" "$6"
}

blocks() {
  set +f
  for folder in /sys/dev/block/*; do
    [ -r "$folder/uevent" ] || continue
    name=
    while IFS='=' read -r key value; do
      [ "$key" = DEVNAME ] && name=$value
    done < "$folder/uevent"
    parent=-
    real=$(cd -P "$folder" && pwd -P)
    [ -r "$folder/partition" ] && parent=${real%/*} && parent=${parent##*/}
    holders=
    for holder in "$folder"/holders/*; do
      [ -e "$holder" ] && holders="$holders,${holder##*/}"
    done
    holders=${holders#,}
    read -r sectors < "$folder/size"
    printf 'block %s %s %s %s %s\n' "${folder##*/}" "$sectors" "$name" "$parent" "${holders:--}"
  done
  set -f
}

# Every LVM volume: whose snapshot could stand in for a freeze, and where its node is.
volumes() {
  has lvs || return 0
  # What a device that was switched off in the middle has left behind.
  lvs --noheadings -o vg_name,lv_name @ingot 2>/dev/null | while read -r group name; do
    kill -0 "${name#ingot_}" 2>/dev/null || lvremove --force --yes "$group/$name" >/dev/null 2>&1
  done
  lvs --noheadings -o vg_name,lv_name,vg_free_count,vg_extent_size,lv_kernel_major,lv_kernel_minor \
    --units b --nosuffix 2>/dev/null | while read -r group name free size major minor; do
    printf 'lv %s %s %s %s %s:%s\n' "$group" "$name" "$free" "$size" "$major" "$minor"
  done
}

# Whether dd takes these flags: it must give exactly the 4096 bytes that were asked for.
takes() {
  [ "$(dd if="$device" bs=4096 count="$2" iflag="$1" 2>/dev/null | wc -c)" -eq 4096 ]
}

open_device() {
  device=$1 flags='' direct=0 bytes=0
  takes direct 1 && direct=1 flags=direct
  takes skip_bytes,count_bytes 4096 && bytes=1 flags=${flags:+$flags,}skip_bytes,count_bytes
  folder=/sys/dev/block/$(device_number "$device") sector=0
  [ ! -r "$folder/partition" ] || folder=$folder/..
  [ ! -r "$folder/queue/logical_block_size" ] || read -r sector < "$folder/queue/logical_block_size"
  text "direct $direct
bytes $bytes
sector $sector
block $(blockdev --getbsz "$device" 2>/dev/null || echo 0)"
}

dd_range() {
  if [ "$bytes" = 1 ]; then
    dd if="$device" bs=1048576 skip="$1" count="$2" iflag="$flags" 2>/dev/null
    return
  fi
  size=1048576
  while [ $(($1 % size)) != 0 ] || [ $(($2 % size)) != 0 ]; do size=$((size / 2)); done
  dd if="$device" bs=$size skip=$(($1 / size)) count=$(($2 / size)) ${flags:+iflag="$flags"} 2>/dev/null
}

# Writes the ranges; what goes wrong is said on descriptor 5, since a pipeline hides statuses.
ranges() {
  while [ $# -gt 0 ]; do
    dd_range "$1" "$2" || {
      echo "BYTE $1" >&5
      return
    }
    shift 2
  done
}

read_ranges() {
  sequence=$1 codec=$2
  shift 2
  total=0
  for number in "$@"; do
    # Every second number is a length.
    if [ -n "${offset-}" ]; then total=$((total + number)) offset=; else offset=$number; fi
  done
  say data "$sequence" "$codec" $total
  digest=-
  case $codec in
    zstd) bad=$({ ranges "$@" 5>&6 | zstd -q -1 $one_thread -c >&3; } 6>&1) ;;
    gzip) bad=$({ ranges "$@" 5>&6 | $gzip -1 -c >&3; } 6>&1) ;;
    *)
      if has sha256sum && [ -e /proc/self/fd/3 ]; then
        # What tee opens by its name must be a pipe; the stream may be a socket.
        bad=$({ { ranges "$@" 5>&6 | tee /proc/self/fd/7 | sha256sum >&6; } 7>&1 | cat >&3; } 6>&1)
        digest=${bad%% *}
      else
        bad=$({ ranges "$@" 5>&6 >&3; } 6>&1)
      fi
      ;;
  esac
  case $bad in *BYTE*) fail "$device cannot be read at ${bad#*BYTE}" ;; esac
  sent=$((sent + total))
  say "done" "$sequence" "$digest"
}

# Writes "NUMBER DIGEST" of one group, or what went wrong.
sum_group() {
  number=$1
  shift
  digest=$(ranges "$@" 5>&6 | $tool)
  printf '%s %s\n' "$number" "${digest%% *}" >&6
}

# Groups of ranges, each after a slash; all are read and hashed at the same time.
sum_groups() {
  sequence=$1 tool=$2
  shift 2
  case $tool in b2sum | sha256sum) ;; *) fail "unknown command: $tool" ;; esac
  answers=$({ start_groups "$@"; } 6>&1)
  case $answers in *BYTE*) fail "$device cannot be read at ${answers#*BYTE}" ;; esac
  digests=
  number=0
  while [ $number -lt 16 ]; do
    found=
    while read -r key value; do
      [ "$key" = $number ] && found=$value
    done <<EOF
$answers
EOF
    [ -n "$found" ] || break
    digests="$digests $found"
    number=$((number + 1))
  done
  say "sums $sequence$digests"
}

start_groups() {
  count=0 group=
  for word in "$@" /; do
    if [ "$word" = / ]; then
      # shellcheck disable=SC2086
      sum_group $count $group &
      count=$((count + 1)) group=
    else
      group="$group $word"
    fi
  done
  wait
}

# --- what was written: the kernel's log of the requests that a disk has completed ------------------

# Finds the disk that the device is or lies on, and where it begins there. Fails where a write could
# come by another way than as a request of that disk.
find_disk() {
  folder=$(cd -P "/sys/dev/block/$(device_number "$device")" && pwd -P) || return 1
  [ -z "$(ls "$folder/holders")" ] || return 1
  base=0
  if [ -r "$folder/partition" ]; then
    read -r base < "$folder/start"
    folder=${folder%/*}
  else
    set +f
    set -- "$folder"/*/partition
    set -f
    [ ! -e "$1" ] || return 1
  fi
  case ${folder##*/} in sd* | hd* | vd* | xvd* | mmcblk* | nvme* | loop* | nbd*) ;; *) return 1 ;; esac
  dax=0
  [ ! -r "$folder/queue/dax" ] || read -r dax < "$folder/queue/dax"
  [ "$dax" = 0 ] || return 1
  read -r number < "$folder/dev"
  # As the kernel has it in memory.
  disk=$(((${number%:*} << 20) | ${number#*:}))
}

# Logs requests in an instance of the kernel's tracing, which nobody else looks at.
open_log() {
  turn=$((turn + 1))
  log=$logs/ingot_${worker}_$turn
  mkdir "$log" || return 1
  event=$log/events/block/block_rq_complete
  echo "$1" > "$event/filter" && echo 1 > "$event/enable"
}

drop_log() {
  [ -z "$log" ] || rmdir "$log" 2>/dev/null
  log=
}

# Those of sessions that were killed.
drop_old_logs() {
  set +f
  for old in "$logs"/ingot_*; do
    owner=${old##*/ingot_}
    kill -0 "${owner%_*}" || rmdir "$old"
  done
  set -f
}

# The log is of use only where it is seen to show a read that was just done.
start_log() {
  [ "$direct" = 1 ] && find_disk || return 1
  logs=
  for folder in /sys/kernel/tracing/instances /sys/kernel/debug/tracing/instances; do
    [ -n "$logs" ] || [ ! -d $folder ] || logs=$folder
  done
  [ -n "$logs" ] || return 1
  drop_old_logs
  open_log "dev == $disk" || return 1
  writes="dev == $disk && !(rwbs ~ \"R*\")"
  dd if="$device" of=/dev/null bs=12288 skip=1 count=1 iflag=direct || return 1
  grep -q "block_rq_complete: [0-9]*,[0-9]* R[A-Z]* ([^)]*) $((base + 24)) + 24 " "$log/trace" || return 1
  drop_log
  open_log "$writes"
}

track() {
  if start_log 2>/dev/null; then
    text "base $base"
  else
    drop_log
    text none
  fi
}

# Writes "SECTOR COUNT" for each entry of a log; fails when it does not have them all.
log_entries() {
  echo 0 > "$1/tracing_on" || return 1
  entries=0
  set +f
  for stats in "$1"/per_cpu/cpu*/stats; do
    while read -r key count rest; do
      case "$key $count $rest" in
        'entries: '*) entries=$((entries + count)) ;;
        'overrun: 0 ' | 'commit overrun: 0' | 'dropped events: 0') ;;
        *overrun:* | 'dropped events:'*) return 1 ;;
      esac
    done < "$stats"
  done
  set -f
  [ $entries -le 100000 ] || return 1
  written=$(sed -n 's/.*: block_rq_complete: [0-9]*,[0-9]* [A-Z]* ([^)]*) \([0-9]*\) + \([0-9]*\) .*/\1 \2/p' "$1/trace")
  # Two words for each entry.
  # shellcheck disable=SC2086
  set -- $written
  [ $# = $((2 * entries)) ] || return 1
  printf '%s\n' "$written"
}

# Tells what was written since the last time. The next log begins before this one ends.
changes() {
  old=$log written=
  if [ -n "$old" ] && open_log "$writes" 2>/dev/null && written=$(log_entries "$old" 2>/dev/null); then
    text "$written"
  else
    drop_log
    text lost
  fi
  # It takes a moment, and somebody may be frozen.
  [ -z "$old" ] || rmdir "$old" >/dev/null 2>&1 3>&- &
}

gzip=gzip
! has pigz || gzip=pigz
# A zstd for each request: threads of its own cost more than they bring.
one_thread=
! zstd -q -1 --single-thread -c </dev/null >/dev/null 2>&1 || one_thread=--single-thread

say ready 1
# Descriptor 3 is the stream, for the guard and for what writes payloads.
{ read_commands | work; } 3>&1
