#!/bin/bash
# Checks the software CUDA driver: its own self-test, then Debian's GStreamer on top of it.
#
# usage: tests/cuda/check.sh [FOLDER]     FOLDER holds libcuda.so.1 and libnvcuvid.so.1; default: target/cuda
# In: the two libraries, gcc, GStreamer with its nvcodec plugin. Out: one line a check, "N passed, N failed", status 0 or 1.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(cd "${1:-$here/../../target/cuda}" && pwd) || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LD_LIBRARY_PATH=$libraries
unset "${!WATCHPOST_SOFT_@}"
passed=0 failed=0

verdict() {   # STATUS NAME
  if [ "$1" = 0 ]; then passed=$((passed + 1)); echo "ok      $2"; else failed=$((failed + 1)); echo "FAILED  $2"; cat "$work/log"; fi
}
good() {      # NAME COMMAND...
  local name=$1; shift
  "$@" > "$work/log" 2>&1
  verdict $? "$name"
}
aborts() {    # NAME MESSAGE COMMAND...: dies of abort() and says so
  local name=$1 message=$2; shift 2
  ( ulimit -c 0; "$@"; exit $? ) > "$work/log" 2>&1
  [ $? = 134 ] && grep -q "$message" "$work/log"
  verdict $? "$name"
}

warnings="-std=c11 -O2 -Wall -Wextra -Werror"
gcc $warnings -o "$work/selftest" "$here/selftest.c" "$here/selftest_streams.c" -L"$libraries" -l:libcuda.so.1 -pthread || exit 2
gcc $warnings -fPIC -shared -o "$work/kernels.so" "$here/selftest_kernels.c" || exit 2
gcc $warnings -o "$work/pipeline" "$here/pipeline.c" $(pkg-config --cflags --libs gstreamer-1.0) || exit 2

s=$work/selftest
good "devices, errors, addresses of functions" env WATCHPOST_SOFT_DEVICES=2 WATCHPOST_SOFT_MEMORY=1000000 \
  WATCHPOST_SOFT_VERSION=12060 WATCHPOST_SOFT_CAPABILITY=89 "$s" devices
good "no device" env WATCHPOST_SOFT_DEVICES=0 "$s" none
# Workers dawdle for long here, so that even a busy machine shows what was not waited for; whoever waits is not kept.
for mode in "" "WATCHPOST_SOFT_ASYNC=1 WATCHPOST_SOFT_DELAY_US=500000" WATCHPOST_SOFT_PAGES=1 WATCHPOST_SOFT_FENCE=0; do
  case $mode in *ASYNC*) as=", with workers" ;; *PAGES*) as=", with pages" ;; *FENCE*) as=", unfenced" ;; *) as="" ;; esac
  good "contexts$as" env $mode "$s" contexts
  good "memory and its limit$as" env $mode WATCHPOST_SOFT_MEMORY=1000000 "$s" memory
  good "copies and fills, counted$as" env $mode "$s" copies
  good "streams and events$as" env $mode "$s" streams
  good "modules and launches$as" env $mode WATCHPOST_SOFT_KERNELS="$work/kernels.so" "$s" kernels
  good "threads$as" env $mode "$s" threads
  good "faults, sticky errors$as" env $mode WATCHPOST_SOFT_FAIL=cuMemAlloc:2=2,cuStreamCreate:*=999 "$s" faults
done
k=WATCHPOST_SOFT_KERNELS=$work/kernels.so
aborts "an overrun is found when freed" "overrun: allocation #1 (cuMemAllocManaged, 1000 bytes) was written 1 bytes past" "$s" overrun-free
aborts "an overrun is found by a report" "was written 301 bytes past its end" "$s" overrun-report
aborts "an underrun is found at the end" "was written 3 bytes before its start" "$s" underrun-exit
aborts "a kernel's overrun is found" "overrun: allocation #1 (cuMemAlloc_v2, 400 bytes)" env "$k" "$s" kernel-overrun
aborts "a write after free is found at the end" "was written at byte 7 after it was freed" "$s" write-after-free
aborts "device memory faults on the host" "touched device memory: byte 5 of allocation #1 (cuMemAlloc_v2" "$s" host-touch
aborts "it does again after a kernel followed it" "touched device memory: byte 5 of allocation #2" env "$k" "$s" fence-closed
aborts "pages: a read beyond faults" "overrun: allocation #1 .* was touched 25 bytes past" env WATCHPOST_SOFT_PAGES=1 "$s" read-beyond
aborts "pages: a read after free faults" "use after free: allocation #1 .* at byte 7" env WATCHPOST_SOFT_PAGES=1 "$s" read-after-free
aborts "pages: an overrun is found all the same" "was written 1 bytes past" env WATCHPOST_SOFT_PAGES=1 "$s" overrun-free
aborts "misuse aborts when asked to" "cuMemFree_v2: allocation #1 .* was freed before" env WATCHPOST_SOFT_STRICT=1 "$s" strict
aborts "a fault that cannot be read aborts" "cannot read the fault" env WATCHPOST_SOFT_FAIL=cuMemAlloc "$s" none
aborts "a fault on a device that cannot be read aborts" "cannot read the device" env WATCHPOST_SOFT_FAIL=cuMemAlloc@x:1=2 "$s" none
env WATCHPOST_SOFT_REPORT="$work/books-%p.json" "$s" contexts > "$work/log" 2>&1 && python3 -m json.tool "$work"/books-*.json >> "$work/log" 2>&1
verdict $? "the books are JSON at the end"

# GStreamer: a fresh registry, in this process, since a cached one knows no CUDA elements. What comes down must be what
# would have been there without going up, and the books must know every byte. Each pipeline has frames of 320x240 in NV12,
# where no row needs padding: 115200 bytes each.
export GST_REGISTRY=$work/registry GST_REGISTRY_FORK=no
source="videotestsrc num-buffers=5 pattern=smpte ! video/x-raw,format=NV12,width=320,height=240"
good "gstreamer: without the GPU part" "$work/pipeline" "$source ! filesink location=$work/plain"
for mode in "" WATCHPOST_SOFT_ASYNC=1 WATCHPOST_SOFT_PAGES=1; do
  case $mode in *ASYNC*) as=", with workers" ;; *PAGES*) as=", with pages" ;; *) as="" ;; esac
  rm -f "$GST_REGISTRY"   # so that the plugin is asked what it has, and the loader says what it misses
  good "gstreamer: up and down$as" env $mode WATCHPOST_SOFT_REPORT="$work/books" GST_DEBUG='*cuda*:6' GST_DEBUG_NO_COLOR=1 GST_DEBUG_FILE="$work/debug" \
    "$work/pipeline" "$source ! cudaupload ! video/x-raw(memory:CUDAMemory) ! cudadownload ! video/x-raw ! filesink location=$work/round"
  good "gstreamer: the same bytes$as" cmp "$work/plain" "$work/round"
  ! grep -iE "failed to load|could not (load|open)|missing symbol" "$work/debug" | grep -v nvrtc > "$work/log"
  verdict $? "gstreamer: misses no function$as"
  python3 - "$work/books" > "$work/log" 2>&1 <<'PYTHON'
import json, sys
books = json.load(open(sys.argv[1]))
print(json.dumps(books, indent=1))
size = 5 * 320 * 240 * 3 // 2
for direction in ("host_to_device", "device_to_host"):
    assert books["copies"][direction] == {"calls": 10, "bytes": size}, direction
assert books["copies"]["device_to_device"]["calls"] == 0
for kind in ("contexts", "streams", "events", "allocations", "host_allocations"):
    assert books[kind]["alive"] == 0 and books[kind]["reclaimed"] == 0, kind
assert books["allocations"]["created"] > 0 and books["misuse"]["count"] == 0
PYTHON
  verdict $? "gstreamer: every byte counted, nothing left$as"
done
env WATCHPOST_SOFT_FAIL=cuMemAllocPitch:2=2 "$work/pipeline" "$source ! cudaupload ! video/x-raw(memory:CUDAMemory) ! cudadownload ! fakesink" > "$work/log" 2>&1
[ $? = 1 ] && grep -q '^pipeline: ' "$work/log"
verdict $? "gstreamer: out of memory is an error of the pipeline"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
