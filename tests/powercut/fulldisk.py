#!/usr/bin/env python3
"""A store on a small ext4 that is full from time to time.

Makes a filesystem of 2 GiB in /dev/shm, where what is only reserved takes no memory, and runs src/store/tests/full.rs on it:
every way of writing on a full disk and after it, a load while other programs take all room and give it back, and opening on
a full disk with and without a ballast.

Needs Linux, root, mkfs.ext4, a loop device and 256 MiB of /dev/shm. Where something is missing it says `full disk: not run
here, because ...` and ends with 0, or with 3 when `--required` is given; otherwise with 0 when all was as it should be.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import powercut


def missing():
    if sys.platform != "linux":
        return "this is not Linux"
    if os.geteuid() != 0:
        return "it needs root"
    absent = [tool for tool in ("mkfs.ext4", "losetup", "mount", "umount") if shutil.which(tool) is None]
    if absent:
        return "tools are missing: " + ", ".join(absent)
    try:
        powercut.run(["losetup", "-f"])
    except RuntimeError as error:
        return f"there are no loop devices ({error})"
    if not os.path.isdir("/dev/shm") or shutil.disk_usage("/dev/shm").free < 256 * powercut.MIB:
        return "there is too little of /dev/shm"
    return None


def main():
    why = missing()
    if why:
        print(f"full disk: not run here, because {why}")
        return 3 if "--required" in sys.argv else 0
    given = [argument.removeprefix("--binary=") for argument in sys.argv if argument.startswith("--binary=")]
    binary = given[0] if given else powercut.build()
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix="orlop-full-", dir="/dev/shm")
    image, mount = f"{directory}/image", f"{directory}/mount"
    mounted = False
    try:
        os.makedirs(mount)
        with open(image, "wb") as file:
            file.truncate(2048 * powercut.MIB)
        # Few inodes, so that they run out as well; nothing is kept for root, who would not notice a full disk.
        powercut.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "1024", "-J", "size=16", image])
        powercut.run(["mount", "-o", "loop,noatime", image, mount])
        mounted = True
        command = [binary, "--ignored", "--exact", "store::tests::full::full", "--nocapture"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240,
                              env=dict(os.environ, ORLOP_FULL_ROOT=mount))
    finally:
        if mounted:
            powercut.run(["umount", mount])
        shutil.rmtree(directory, ignore_errors=True)
    said = [line for line in done.stdout.splitlines() if line.startswith(("way ", "load ", "opening "))]
    if done.returncode != 0 or "1 passed" not in done.stdout or "opening done" not in said or not said[-1].startswith("load "):
        print((done.stdout + done.stderr)[-3000:])
        print(f"full disk: WRONG after {said[-1:]}")
        return 1
    ways = sum(line.startswith("way ") for line in said)
    print(f"full disk: {ways} ways of writing, {said[-1]}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
