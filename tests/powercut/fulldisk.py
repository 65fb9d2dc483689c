#!/usr/bin/env python3
"""A store on a small filesystem that is full from time to time.

    tests/powercut/fulldisk.py [--fs ext4|xfs|btrfs]... [--required] [--binary FILE]

Makes a filesystem of 2 GiB in /dev/shm, where what is only reserved takes no memory, and runs src/store/tests/full.rs on it:
every way of writing on a full disk and after it, a load while other programs take all room and give it back, opening on
a full disk with and without a ballast, and upload sessions that take what is left. All three unless some are named; only ext4 runs out of inodes as well.

Needs Linux, root, mkfs.ext4, mkfs.xfs and mkfs.btrfs, a loop device and 256 MiB of /dev/shm. Where that cannot be had it
says `full disk: not run on ext4 here, because ...` and ends with 0; with `--required` it ends with 3 when the machine would
allow it and only tools are missing. Otherwise it ends with 0 when all was as it should be.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

# Nothing stays behind in the checkout.
sys.dont_write_bytecode = True
from machine import FILESYSTEMS, MIB, build, lacking, refused, run

# Few inodes, so that they run out as well; nothing is kept for root, who would not notice a full disk.
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "1024", "-J", "size=16"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


def one(name, binary):
    """Answers whether all was as it should be on this filesystem, and says what was."""
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix="orlop-full-", dir="/dev/shm")
    image, mount = f"{directory}/image", f"{directory}/mount"
    mounted = False
    try:
        os.makedirs(mount)
        with open(image, "wb") as file:
            file.truncate(2048 * MIB)
        run([*MAKE[name], image])
        run(["mount", "-o", "loop,noatime", image, mount])
        mounted = True
        command = [binary, "--ignored", "--exact", "store::tests::full::full", "--nocapture"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240,
                              env=dict(os.environ, ORLOP_FULL_ROOT=mount))
    finally:
        if mounted:
            run(["umount", mount])
        shutil.rmtree(directory, ignore_errors=True)
    said = [line for line in done.stdout.splitlines() if line.startswith(("way ", "load ", "opening ", "removing ", "uploading "))]
    if done.returncode != 0 or "1 passed" not in done.stdout or not {"opening done", "removing done", "uploading done"} <= {*said} or not said[-1].startswith("load "):
        print((done.stdout + done.stderr)[-3000:])
        print(f"full disk: WRONG on {name} after {said[-1:]}")
        return False
    ways = sum(line.startswith("way ") for line in said)
    print(f"full disk: {name}, {ways} ways of writing, {said[-1]}, {time.monotonic() - start:.0f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fs", choices=FILESYSTEMS, action="append", help="default: all of them")
    parser.add_argument("--required", action="store_true", help="fail where nothing but tools are missing")
    parser.add_argument("--binary", help="the unit test binary of the library; built when not given")
    options = parser.parse_args()
    names = []
    for name in options.fs or FILESYSTEMS:
        why = refused([name], 256)
        absent = why is None and lacking([name])
        if not why and not absent:
            names.append(name)
            continue
        print(f"full disk: not run on {name} here, because {why or absent}", flush=True)
        if absent and options.required:
            return 3
    if not names:
        return 0
    binary = options.binary or build()
    return 0 if all([one(name, binary) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
