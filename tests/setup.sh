# Sourced by tests/run, tests/demo and tests/bench: what they need before anything is built.
# shellcheck shell=bash

top=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$top"
target=${CARGO_TARGET_DIR:-$top/target}

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s\n' "$*"; }
die() {
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	exit "${2:-1}"
}

# quietly LABEL COMMAND...: shows a line that counts seconds, and the command's output only when it fails.
quietly() {
	local label=$1 log status=0 began=$SECONDS shown=0 job
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null &
	job=$!
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.2
		[ $((SECONDS - began)) -gt "$shown" ] || continue
		shown=$((SECONDS - began))
		if [ -t 1 ]; then
			printf '\r\e[K    %s ... %s s' "$label" "$shown"
		elif [ $((shown % 10)) -eq 0 ]; then
			note "$label ... $shown s"
		fi
	done
	wait "$job" || status=$?
	[ ! -t 1 ] || printf '\r\e[K'
	note "$label: $((SECONDS - began)) s"
	[ "$status" -eq 0 ] || cat -- "$log" >&2
	rm -f -- "$log"
	return "$status"
}

# Packages of the host, installed only when one is missing; without root or apt that is left to the user.
need_packages() {
	local missing=() package program
	while read -r program package; do
		command -v "$program" >/dev/null 2>&1 || missing+=("$package")
	done <<-'END'
		cc gcc
		systemd-nspawn systemd-container
		mmdebstrap mmdebstrap
		nsenter util-linux
		mount mount
		curl curl
		strace strace
		rsync rsync
		mkfs.xfs xfsprogs
		mkfs.btrfs btrfs-progs
	END
	[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
	[ "${#missing[@]}" -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		note "not installed: ${missing[*]}"
		return 0
	fi
	export DEBIAN_FRONTEND=noninteractive
	quietly "apt-get update" apt-get update -q || note "apt-get update failed; going on with the lists that are there"
	quietly "apt-get install ${missing[*]}" apt-get install -q -y --no-install-recommends "${missing[@]}" ||
		die "could not install: ${missing[*]}"
}

# cargo is the invoking user's: under sudo it is neither in PATH nor root's, and what it writes must stay theirs.
builder=()
need_toolchain() {
	local home cargo='' wanted have
	wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
	home=$HOME
	if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
		home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
		if [ "$(stat -c %U .)" = "$SUDO_USER" ]; then
			builder=(setpriv --reuid "$(id -u "$SUDO_USER")" --regid "$(id -g "$SUDO_USER")" --init-groups
				env "HOME=$home" "USER=$SUDO_USER")
		else
			export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup} CARGO_HOME=${CARGO_HOME:-$home/.cargo}
		fi
	fi
	for cargo in "$(command -v cargo || :)" "$home/.cargo/bin/cargo" "$HOME/.cargo/bin/cargo"; do
		[ ! -x "$cargo" ] || break
	done
	[ -x "$cargo" ] || die "no Rust toolchain; get one with: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y"
	PATH=$(dirname -- "$cargo"):$PATH
	[ "${#builder[@]}" -eq 0 ] || builder+=("PATH=$PATH")
	have=$(run_cargo --version 2>/dev/null | cut -d' ' -f2)
	if [ -z "$have" ] || [ "$(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
		die "Rust $wanted or newer is needed, found ${have:-none}; get it with: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y"
	fi
}

# A disk that fills up while things are built fails at a hundred places, and none of them says so.
need_room() {
	local wanted=8 free
	[ ! -d "$target/release" ] || wanted=2
	free=$(($(df -Pk -- "$top" | awk 'END { print $4 }') >> 20))
	[ "$free" -ge "$wanted" ] ||
		die "$wanted GiB are wanted on the file system of $top, and $free are free (a build is 5, the cache of machines in /var/cache/dagger-rig 3)"
}

run_cargo() { "${builder[@]}" cargo "$@"; }

# test_program NAME: builds a test program of the rig and says where it is, so that it can be run as another user than cargo.
test_program() {
	run_cargo build --locked -q -p dagger-tests --test "$1" || return
	run_cargo test --locked -q -p dagger-tests --test "$1" --no-run --message-format=json |
		sed -n "s/.*\"name\":\"$1\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1
}

# The product's programs, and the stand-in as a static program for images without a system.
build_product() {
	say "Building (the first time takes some minutes)"
	"${builder[@]}" units/build || return
	RUSTFLAGS='-C target-feature=+crt-static' CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		run_cargo build --release --locked -p dagger-tests --bin standin --target "$(uname -m)-unknown-linux-gnu"
}
