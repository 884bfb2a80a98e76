# Shared by the recipes that stand in for upstream images where no registry answers
# (images/bases, images/kind-node). To be sourced, not run.

# Reads `[--engine podman|docker] [--force] [IMAGE]` into $engine, $force and $image.
read_arguments() { # DEFAULT_IMAGE [ARGUMENT…]
  image=$1 engine=${XTASK_ENGINE:-podman} force=
  shift
  while (($#)); do
    case $1 in
      --engine) engine=${2:?--engine needs a value}; shift ;;
      --force) force=yes ;;
      -h | --help) usage; exit 0 ;;
      -*) echo "unknown option \`$1\`" >&2; usage >&2; exit 2 ;;
      *) image=$1 ;;
    esac
    shift
  done
  case $engine in
    podman | docker) ;;
    *) echo "unknown engine \`$engine\`: podman or docker" >&2; exit 2 ;;
  esac
}

# The comment that opens a recipe is its help.
usage() { sed -n '2,/^[^#]/ { s/^# \{0,1\}//p }' "$0"; }

# An image that is there is never replaced unasked: it may be the upstream one.
leave_if_present() {
  if [[ -z $force ]] && "$engine" image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there; --force makes it again" >&2
    exit 0
  fi
}

need() { # COMMAND…
  local command missing=()
  for command; do
    command -v "$command" >/dev/null || missing+=("$command")
  done
  if ((${#missing[@]})); then
    echo "not installed: ${missing[*]}" >&2
    exit 3
  fi
}

need_root() {
  if ((EUID != 0)); then
    echo "debootstrap needs root" >&2
    exit 3
  fi
}

# Makes the folder $work, which goes when the recipe ends, however it ends.
make_work_folder() {
  work=$(mktemp -d)
  trap remove_work_folder EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

remove_work_folder() {
  # An interrupted debootstrap leaves /proc mounted below; it must be gone before rm gets there.
  local mounted
  while read -r mounted; do
    umount --lazy "$mounted"
  done < <(awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r)
  rm -rf --one-file-system "$work"
}

# Runs a command that has much to say; it is heard only if it fails.
logged() { # COMMAND…
  "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
}

# `URI SUITE` of each Debian archive this host installs from, in either form of apt's sources.
debian_archives() {
  # shellcheck disable=SC2016 # apt fills the names in
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 ~ /^bookworm(-updates|-security)?$/ && $3 == "main" { print $1, $2 }' | sort -u |
    while read -r uri suite; do
      # Cloud images name a file that lists mirrors instead of the mirror.
      if [[ $uri == mirror+file:* ]]; then
        uri=$(grep -m1 -o '^[a-z]*://[^[:space:]]*' "${uri#mirror+file:}")
      fi
      echo "$uri $suite"
    done
}

debian_mirror() { debian_archives | awk '$2 == "bookworm" { print $1; exit }'; }

# Lays bookworm's minimal system into $1 with the packages listed by comma in $2.
bootstrap_debian() { # ROOT PACKAGES
  local mirror
  mirror=$(debian_mirror)
  if [[ -z $mirror ]]; then
    echo "apt on this host has no source for bookworm" >&2
    exit 3
  fi
  logged debootstrap --variant=minbase ${2:+--include="$2"} bookworm "$1" "$mirror"
}

# The tree in $1 as a tar that is the same whenever the tree is: sorted, and all of one date (1980,
# the earliest that zip files can hold).
tar_tree() { # FOLDER
  tar -C "$1" --numeric-owner --sort=name --mtime=@315532800 --one-file-system -c .
}

# Makes $image out of the tree in $1; what follows goes to the engine's import.
import_tree() { # ROOT [--change INSTRUCTION]…
  local root=$1 quiet=()
  shift
  [[ $engine != podman ]] || quiet=(--quiet)
  tar_tree "$root" | "$engine" import "${quiet[@]}" "$@" - "$image" >/dev/null
}
