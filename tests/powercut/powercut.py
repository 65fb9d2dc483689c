#!/usr/bin/env python3
"""Power cuts at every block write of a workload.

    tests/powercut/powercut.py --fs ext4 --points 2000          a run, with everything in place
    tests/powercut/powercut.py --fs ext4 --without log-sync     a control: a step left out must be caught
    tests/powercut/powercut.py --slice                          what CI runs, in about a minute
    tests/powercut/powercut.py --controls                       every control on every filesystem, in a table
    tests/powercut/powercut.py --fs ext4 --compound 20          cuts of the recovery from cuts, at 20 points of a workload

How it works. A filesystem is made on a disk whose every block write and cache flush is written down (the
`blklogwrites` driver of qemu-storage-daemon, exported over FUSE, with a loop device on it). A workload runs on it: it
uses the store through its public API, and says `ACK <text>` when it was promised something; the promise is marked in
the log of the disk by a write to its last sector. Then the disk is made as it was at a point of the log, mounted, and
a check opens the store, looks for everything that had been promised by then, and for damage, verifies everything, and
at every fourth point rebuilds the metadata; see src/store/tests/powercut.rs, which has the programs. They are part of the
test binary of the library, because the fault points that can leave out a step of the protocol exist in no other.

Two kinds of cut:
  prefix   every write up to the point reached the disk
  subset   everything up to the last flush did, and a random half of the writes since, as with a cache that reorders

With --compound the disk of a cut is not checked but recovered from, again on a disk that is written down: the store is
opened, written to and closed, then rebuilt, then its metadata are damaged and it heals. --points is then how many cuts of
each recovery are checked.

Points are spread evenly over the whole run. The same seed gives the same workload and the same halves; the order of
background writes is the kernel's, so the disks of two runs differ. The last line of a run says what was done.

Needs Linux, root, qemu-storage-daemon (Debian: qemu-utils, in bookworm qemu-system-common), mkfs.ext4, mkfs.xfs and
mkfs.btrfs (e2fsprogs, xfsprogs, btrfs-progs), /dev/fuse, loop devices and up to 1.5 GiB of /dev/shm. Where that cannot
be had it says `power cuts: not run on ext4 here, because ...` and ends with 0; with `--required` it ends with 3 when the machine
would allow it and only tools are missing.
Otherwise it ends with 0 when every point was good (with `--without`: when the missing step was noticed, by the kind of failure
that STEPS says), else with 1.
"""

import argparse
import json
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

# Nothing stays behind in the checkout.
sys.dont_write_bytecode = True
from machine import FILESYSTEMS, build, lacking, refused, run

PROGRAM = "store::tests::powercut::"

# What the words of a failure say that went wrong: the first that fits.
KINDS = [
    ("bytes", "is not what it is called"),
    ("torn", r"is torn|the open reports \[Damaged \{ file: "),
    ("dangling", "dangling "),
    ("undone", "was undone by an older index.json"),
    ("reported", "the open reports "),
    ("lost", r"(^|: )lost \["),
    ("unreadable", "cannot be read"),
    ("unfinished", "a rebuild was interrupted"),
    ("unopened", "cannot be opened"),
    ("unsound", "is not sound"),
    ("usage", "^(usage|limits) "),
    ("leases", "^leases "),
]

# Steps of the protocol, and what goes wrong without them: anything else is another defect.
STEPS = {
    # An upload session whose saved bytes are not there cannot be read.
    "file-sync": ["bytes", "unreadable"],
    "document-sync": ["torn"],
    "filesystem-sync": ["bytes"],
    "directory-sync": ["dangling", "unreadable", "unfinished"],
    "log-sync": ["lost"],
    "journal-order": ["dangling", "unreadable"],
    "pending": ["reported"],
    "base": ["undone"],
    "condemned": ["dangling", "unreadable"],
    "publish-first": ["dangling"],
    "judging": ["unopened", "dangling", "unreadable"],
}


def kind_of(why):
    """What went wrong, by the words of a check or a workload."""
    words = re.sub(r"^after \S+ in \S+: ", "", why)
    return next((kind for kind, sign in KINDS if re.search(sign, words, re.MULTILINE)), "other")


class Disk:
    """A mounted filesystem on a disk that writes everything down."""

    def __init__(self, directory, filesystem, image=None):
        """A new one, or one that begins as `image` is."""
        self.filesystem, self.image = filesystem, image
        self.log = f"{directory}/log"
        self.mount = f"{directory}/mount"
        self.loop = self.daemon = self.marks = None
        self.mounted = False
        disk, self.export = f"{directory}/disk", f"{directory}/export"
        os.makedirs(self.mount)
        for path, size in ((disk, filesystem.disk_size), (self.log, 0), (self.export, 0)):
            with open(path, "wb") as file:
                file.truncate(size)
        if image:
            run(["cp", "--sparse=always", image, disk])
        self.words = open(f"{directory}/daemon", "w+")
        self.daemon = subprocess.Popen(
            ["qemu-storage-daemon",
             "--blockdev", f"driver=file,node-name=disk,filename={disk}",
             "--blockdev", f"driver=file,node-name=log,filename={self.log}",
             "--blockdev", "driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size=512",
             "--export", f"type=fuse,id=export,node-name=both,mountpoint={self.export},writable=on"],
            stdout=subprocess.DEVNULL, stderr=self.words)

    def start(self):
        end = time.monotonic() + 10
        while os.stat(self.export).st_size == 0:
            if time.monotonic() > end or self.daemon.poll() is not None:
                self.words.seek(0)
                raise RuntimeError(f"qemu-storage-daemon does not start: {self.words.read().strip()}")
            time.sleep(0.02)
        # The export of some versions of qemu spoils writes that are under way at the same time.
        connections = "/sys/fs/fuse/connections"
        if not os.path.ismount(connections):
            run(["mount", "-t", "fusectl", "none", connections])
        for knob in ("max_background", "congestion_threshold"):
            with open(f"{connections}/{os.stat(self.export).st_dev}/{knob}", "w") as file:
                file.write("1")
        self.loop = run(["losetup", "--direct-io=on", "-f", "--show", self.export]).strip()
        if not self.image:
            self.filesystem.format(self.loop)
        run(["mount", "-t", self.filesystem.name, "-o", "noatime", self.loop, self.mount])
        self.mounted = True
        self.marks = os.open(self.loop, os.O_WRONLY | os.O_DIRECT)
        self.sector = mmap.mmap(-1, 512)

    def mark(self, number):
        self.sector[:] = (b"MARK%012d" % number).ljust(512, b"\0")
        os.pwrite(self.marks, self.sector, self.filesystem.mark_at)

    def close(self):
        if self.marks is not None:
            os.close(self.marks)
        if self.mounted:
            run(["umount", self.mount])
        if self.loop:
            run(["losetup", "-d", self.loop])
        self.daemon.terminate()
        self.daemon.wait()


def program(binary, name):
    return [binary, "--ignored", "--exact", PROGRAM + name, "--nocapture"]


def record(disk, command, environment, earlier=()):
    """Runs a program; answers the promises that it was given behind `earlier` ones, and why it did not come to its end."""
    promises = list(earlier)
    # The second of the earlier ones is the operation that a cut interrupted.
    disk.mark(min(1, len(promises)))
    work = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=dict(os.environ, ORLOP_POWERCUT_ROOT=disk.mount, **environment))
    bad = None
    for line in work.stdout:
        if line.startswith("BAD "):
            bad = line
        if line.startswith("ACK "):
            promises.append(line[4:].rstrip("\n"))
            disk.mark(len(promises))
            try:
                work.stdin.write("\n")
                work.stdin.flush()
            except BrokenPipeError:
                break
    words = work.stderr.read()
    return promises, (bad or words.strip() or "no words") if work.wait() else None


def workload(disk, binary, options, without=None):
    return record(disk, program(binary, "workload"), {
        "ORLOP_POWERCUT_SEED": str(options.seed), "ORLOP_POWERCUT_STEPS": str(options.steps),
        "ORLOP_POWERCUT_WITHOUT": without or ""})


def entries(data):
    """The log: where, what, and whether the cache was flushed before it."""
    _, _, count, sector = struct.unpack("<QQQI", data[:28])
    at = sector
    for _ in range(count):
        start, sectors, flags, _ = struct.unpack("<QQQQ", data[at:at + 32])
        at += sector
        content = b""
        if not flags & 4:  # not a discard
            content = data[at:at + sectors * sector]
            at += sectors * sector
        yield start * sector, content, bool(flags & 1)


class Replay:
    """One process that makes disks as they were and checks them."""

    def __init__(self, directory, filesystem, binary, promises_file):
        self.filesystem, self.binary, self.promises = filesystem, binary, promises_file
        self.image, self.mount = f"{directory}/image", f"{directory}/mount"
        os.makedirs(self.mount)
        self.file = os.open(self.image, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.file, filesystem.disk_size)
        self.loop = run(["losetup", "-f", "--show", self.image]).strip()

    def close(self):
        run(["losetup", "-d", self.loop])
        os.close(self.file)

    def check(self, parts, count, rebuild):
        """`parts` are the pieces of the disk that are not zero. Answers what is wrong, or nothing."""
        put(self.file, parts, self.filesystem.disk_size)
        mounted = subprocess.run(["mount", "-t", self.filesystem.name, "-o", self.filesystem.options, self.loop, self.mount],
                                 capture_output=True, text=True)
        if mounted.returncode:
            return "cannot be mounted: " + mounted.stderr.strip()
        try:
            environment = dict(os.environ, ORLOP_POWERCUT_ROOT=self.mount, ORLOP_POWERCUT_ACKED=self.promises,
                               ORLOP_POWERCUT_COUNT=str(count))
            if rebuild:
                environment["ORLOP_POWERCUT_REBUILD"] = "1"
            try:
                check = subprocess.run(program(self.binary, "check::check"), capture_output=True, text=True, timeout=120,
                                       env=environment)
            except subprocess.TimeoutExpired:
                return "the check does not end"
        finally:
            run(["umount", self.mount])
        if check.returncode == 0 and "1 passed" in check.stdout:
            return None
        said = [line for line in check.stdout.splitlines() if line.startswith("BAD ")]
        return said[-1][4:] if said else f"exit {check.returncode}: {(check.stdout + check.stderr).strip()[-300:]}"

    def all(self, cuts, subsets, seed, stop_at, tell):
        """Checks each of `cuts`, which begin with their number."""
        bad = 0
        for turn, seen, count, disk in cuts:
            rebuild = turn % 4 == 0
            bad += tell("prefix", seen, count, self.check(disk.parts(), count, rebuild))
            for half in disk.halves(subsets, f"{seed} {seen}"):
                bad += tell("subset", seen, count, self.check(half, count, rebuild))
            if stop_at and bad >= stop_at:
                return


def put(file, parts, size):
    """Makes a file of what is not zero."""
    os.ftruncate(file, 0)
    os.ftruncate(file, size)
    for offset, content in parts:
        os.pwrite(file, content, offset)


class Past:
    """A disk as it was at a point of a log."""

    PIECE = 64 << 10

    def __init__(self, size, image=None):
        """`image` is what it was before the log begins, if that is not zero."""
        self.size = size
        self.now = bytearray(size)
        self.used = bytearray(-(-size // self.PIECE))
        self.since = {}  # pieces as they were at the last flush, where they changed
        self.writes = []
        if image:
            with open(image, "rb") as file:
                file.readinto(self.now)
            for n in range(len(self.used)):
                piece = self.now[n * self.PIECE:(n + 1) * self.PIECE]
                self.used[n] = piece.count(0) != len(piece)

    def parts(self):
        for n, is_used in enumerate(self.used):
            if is_used:
                yield n * self.PIECE, memoryview(self.now)[n * self.PIECE:min(self.size, (n + 1) * self.PIECE)]

    def apply(self, offset, content, flush):
        if flush:
            self.since, self.writes = {}, []
        if not content:
            return
        end = offset + len(content)
        for n in range(offset // self.PIECE, -(-end // self.PIECE)):
            if n not in self.since:
                self.since[n] = bytes(self.now[n * self.PIECE:(n + 1) * self.PIECE])
            self.used[n] = 1
        self.now[offset:end] = content
        self.writes.append((offset, content))

    def halves(self, turns, seed):
        """The disk with a random half of the writes since the last flush, by turns."""
        if len(self.writes) < 2:
            return
        for turn in range(turns):
            chance = random.Random(f"{seed} {turn}")
            latest = {n: bytes(self.now[n * self.PIECE:(n + 1) * self.PIECE]) for n in self.since}
            for n, old in self.since.items():
                self.now[n * self.PIECE:n * self.PIECE + len(old)] = old
            for at, what in self.writes:
                if chance.random() < 0.5:
                    self.now[at:at + len(what)] = what
            yield self.parts()
            for n, new in latest.items():
                self.now[n * self.PIECE:n * self.PIECE + len(new)] = new


def cuts(data, filesystem, every, job=0, jobs=1, image=None):
    """Every `every`-th point of a log from the first mark on, shared out: its number, the point, the promises given, the disk."""
    disk = Past(filesystem.disk_size, image)
    count, started, seen = 0, False, 0
    for offset, content, flush in entries(data):
        disk.apply(offset, content, flush)
        if content and offset == filesystem.mark_at and bytes(content[:4]) == b"MARK":
            count, started = int(bytes(content[4:16])), True
        if not started:
            continue
        seen += 1
        if seen % every == 0 and seen // every % jobs == job:
            yield seen // every, seen, count, disk


def count_points(data, mark_at, subsets):
    """How many events there are from the first mark on, and how many cuts a check of each would be."""
    events = cuts = writes = 0
    for offset, content, flush in entries(data):
        writes = (0 if flush else writes) + bool(content)
        if events or (offset == mark_at and bytes(content[:4]) == b"MARK"):
            events += 1
            cuts += 1 + (subsets if writes > 1 else 0)
    return events, cuts


def read_log(path):
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def replay(directory, filesystem, binary, log, promises, options, stop_at, image=None):
    """Checks the points of a log. Answers how many there were and what was wrong."""
    data = read_log(log)
    promises_file = f"{directory}/promises"
    with open(promises_file, "w") as file:
        file.writelines(line + "\n" for line in promises)
    total, checks = count_points(data, filesystem.mark_at, options.subsets)
    every = max(1, checks // options.points)
    jobs = 1 if filesystem.alone else options.jobs
    workers = []
    for job in range(jobs):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            status = 1
            try:
                place = f"{directory}/job{job}"
                os.makedirs(place)

                def tell(kind, seen, count, why):
                    line = json.dumps({"kind": kind, "point": seen, "acknowledged": count, "why": why})
                    os.write(write, (line[:3000] + "\n").encode())
                    return why is not None

                worker = Replay(place, filesystem, binary, promises_file)
                try:
                    points = cuts(data, filesystem, every, job, jobs, image)
                    worker.all(points, options.subsets, options.seed, stop_at, tell)
                finally:
                    worker.close()
                status = 0
            except BaseException as error:
                print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(status)
        os.close(write)
        workers.append((pid, os.fdopen(read)))
    points, wrong = 0, []
    for pid, lines in workers:
        for line in lines:
            point = json.loads(line)
            points += 1
            if point["why"] is not None:
                wrong.append(point)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a replay did not come to its end")
    return total, points, wrong


def one(binary, name, options, without=None, stop_at=0):
    """One run: a workload and its cuts. Answers how it was, and a line about it: `good`, `hidden` where a step that was left
    out was not noticed, or what is wrong."""
    # For the checks too, which leave out what belongs to opening.
    os.environ["ORLOP_POWERCUT_WITHOUT"] = without or ""
    filesystem = FILESYSTEMS[name]
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix="orlop-powercut-", dir="/dev/shm")
    points, wrong, total, failed = 0, [], 0, None
    try:
        disk = Disk(directory, filesystem)
        try:
            disk.start()
            promises, failed = workload(disk, binary, options, without)
        finally:
            disk.close()
        if failed is None or not without:
            if failed is not None or not promises:
                raise RuntimeError(f"the workload failed: {failed}")
            os.unlink(f"{directory}/disk")
            total, points, wrong = replay(directory, filesystem, binary, disk.log, promises, options, stop_at)
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for point in wrong[:options.show]:
        print(f"  bad: {point['kind']} cut at {point['point']}, {point['acknowledged']} acknowledged: {point['why'][:400]}",
              flush=True)
    if failed:
        last = [line for line in failed.splitlines() if line.strip() and not line.startswith("note:")]
        print(f"  bad: the workload itself: {' '.join(last)[:300]}", flush=True)
    kinds = {kind: sum(point["kind"] == kind for point in wrong) for kind in ("prefix", "subset")}
    line = (f"fs={name} without={without or 'nothing'} seed={options.seed} acknowledged={len(promises)} events={total} "
            f"points={points} bad={len(wrong)} prefix={kinds['prefix']} subset={kinds['subset']} "
            f"workload={'failed' if failed else 'ok'} seconds={time.monotonic() - start:.0f}")
    found = {kind_of(point["why"]) for point in wrong} | ({kind_of(failed)} if failed is not None else set())
    if not without:
        return ("good" if not found and points > 0 else "WRONG"), line
    if not found:
        return "hidden", line
    line += f" seen={','.join(sorted(found))}"
    other = found - set(STEPS[without])
    return (f"WRONG, it must be {' or '.join(STEPS[without])}" if other else "good"), line


def compound(binary, name, options):
    """Cuts of recoveries from cuts. Answers whether it was as it should be, and a line about it."""
    filesystem = FILESYSTEMS[name]
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix="orlop-powercut-", dir="/dev/shm")
    points, wrong, begun, total = 0, [], 0, 0
    try:
        disk = Disk(directory, filesystem)
        try:
            disk.start()
            promises, failed = workload(disk, binary, options)
        finally:
            disk.close()
        if failed is not None:
            raise RuntimeError(f"the workload failed: {failed}")
        data = read_log(disk.log)
        every = max(1, count_points(data, filesystem.mark_at, 0)[0] // (options.compound + 1))
        for turn, seen, count, past in cuts(data, filesystem, every):
            if turn > options.compound or count == 0:
                continue
            place = f"{directory}/{turn}"
            os.makedirs(place)
            halves = past.halves(1, f"{options.seed} {seen}") if turn % 2 else iter(())
            with open(f"{place}/image", "wb") as file:
                put(file.fileno(), next(halves, None) or past.parts(), filesystem.disk_size)
            # Puts back what the half left out.
            next(halves, None)
            events, checked, found = again(place, filesystem, binary, promises[count - 1:count + 1], options)
            begun, total, points = begun + 1, total + events, points + checked
            wrong += [dict(point, first=seen) for point in found]
            shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for point in wrong[:options.show]:
        print(f"  bad: {point['kind']} cut at {point['point']} of the recovery from {point['first']}, "
              f"{point['acknowledged']} acknowledged: {point['why'][:400]}", flush=True)
    line = (f"compound fs={name} seed={options.seed} recoveries={begun} events={total} points={points} "
            f"bad={len(wrong)} seconds={time.monotonic() - start:.0f}")
    return not wrong and points > 0, line


def again(place, filesystem, binary, promises, options):
    """One recovery from a cut, with its cuts: events, points, and what was wrong."""
    image, promises_file = f"{place}/image", f"{place}/earlier"
    with open(promises_file, "w") as file:
        file.writelines(line + "\n" for line in promises)
    disk = Disk(f"{place}/disk", filesystem, image)
    try:
        disk.start()
        promises, failed = record(disk, program(binary, "check::recovery"), {
            "ORLOP_POWERCUT_ACKED": promises_file, "ORLOP_POWERCUT_COUNT": "1"}, promises)
    finally:
        disk.close()
    if failed is not None:
        return 0, 0, [{"kind": "first", "point": 0, "acknowledged": len(promises), "why": failed}]
    return replay(place, filesystem, binary, disk.log, promises, options, 0, image)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fs", choices=FILESYSTEMS, action="append", help="default: all of them")
    parser.add_argument("--points", type=int, default=300, help="cuts per filesystem, about")
    parser.add_argument("--subsets", type=int, default=1, help="random halves at each point")
    parser.add_argument("--steps", type=int, default=120, help="operations of the workload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--without", choices=STEPS, help="leave out a step of the protocol, which must be noticed")
    parser.add_argument("--controls", action="store_true", help="every step in turn, in a table")
    parser.add_argument("--compound", type=int, default=0, help="recover from so many cuts, under further cuts")
    parser.add_argument("--slice", action="store_true", help="the short run of CI, with three controls")
    parser.add_argument("--required", action="store_true", help="fail where nothing but tools are missing")
    parser.add_argument("--binary", help="the unit test binary of the library; built when not given")
    parser.add_argument("--show", type=int, default=5, help="bad points that are shown")
    parser.add_argument("--keep", action="store_true", help="keep the recorded disk")
    return parser.parse_args()


def main():
    options = arguments()
    filesystems = options.fs or list(FILESYSTEMS)
    # One that cannot be had here does not keep the others from being run.
    left_out = {}
    for name in filesystems:
        why = refused([name], 1536, ["fuse"])
        absent = why is None and lacking([name], ["qemu-storage-daemon"])
        if why or absent:
            left_out[name] = why or absent
            print(f"power cuts: not run on {name} here, because {why or absent}", flush=True)
        if absent and options.required:
            return 3
    filesystems = [name for name in filesystems if name not in left_out]
    if not filesystems:
        return 0
    binary = options.binary or build()
    good = True

    def go(name, without=None, stop_at=0, points=None, steps=None, must=True):
        nonlocal good
        if name in left_out:
            return
        settings = argparse.Namespace(**vars(options))
        settings.points, settings.steps = points or options.points, steps or options.steps
        if without:
            settings.show = min(1, options.show)
        how, line = one(binary, name, settings, without, stop_at)
        if how == "hidden" and must:
            how = "WRONG, nothing was noticed"
        good = good and how in ("good", "hidden")
        print(f"power cuts: {line}{'' if how == 'good' else f', {how}'}", flush=True)

    def go_on(name, **few):
        nonlocal good
        if name in left_out:
            return
        fine, line = compound(binary, name, argparse.Namespace(**dict(vars(options), **few)))
        good = good and fine
        print(f"power cuts: {line}{'' if fine else ', WRONG'}", flush=True)

    if options.slice:
        go("ext4", points=160, steps=60)
        go("xfs", points=16, steps=24)
        go("btrfs", points=30, steps=24)
        go_on("ext4", compound=2, points=8, steps=24)
        go("ext4", "log-sync", stop_at=1, points=60, steps=24)
        go("ext4", "file-sync", stop_at=1, points=60, steps=24)
        go("ext4", "judging", stop_at=1, points=900, steps=3)
    elif options.controls:
        for step in STEPS:
            for name in filesystems:
                go(name, step, stop_at=1, must=False)
    elif options.compound:
        for name in filesystems:
            go_on(name)
    else:
        for name in filesystems:
            go(name, options.without, stop_at=1 if options.without else 0)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
