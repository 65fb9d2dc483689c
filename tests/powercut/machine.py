"""What the tests of this directory need of a machine: filesystems on loop devices, and programs to make them."""

import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
MIB = 1 << 20


class Filesystem:
    """How one kind of filesystem is made and mounted. Sizes in MiB; the disk ends with room for the marks."""

    def __init__(self, name, size, make, options="noatime", alone=False):
        self.name, self.size, self.make, self.options = name, size, make, options
        # Two copies of one btrfs cannot be mounted side by side.
        self.alone = alone

    @property
    def disk_size(self):
        return (self.size + 4) * MIB

    @property
    def mark_at(self):
        return self.disk_size - 512

    def format(self, device):
        run([part.format(device=device, size=self.size, blocks=self.size * 256) for part in self.make])


FILESYSTEMS = {
    "ext4": Filesystem("ext4", 96, ["mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-b", "4096", "{device}", "{blocks}"]),
    "xfs": Filesystem("xfs", 304, ["mkfs.xfs", "-q", "-f", "-K", "-d", "size={size}m", "{device}"], "noatime,nouuid"),
    "btrfs": Filesystem("btrfs", 192, ["mkfs.btrfs", "-q", "-f", "-K", "-b", "{size}m", "{device}"], alone=True),
}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def in_kernel(name):
    def known():
        with open("/proc/filesystems") as lines:
            return name in {line.split()[-1] for line in lines}

    if not known() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", name], check=False)
    return known()


def refused(filesystems, memory, more=()):
    """Why this machine cannot run them, whatever is installed on it; or nothing. `more` are further filesystems."""
    if sys.platform != "linux":
        return "this is not Linux"
    if os.geteuid() != 0:
        return "it needs root"
    if "fuse" in more and not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if shutil.which("losetup"):
        try:
            run(["losetup", "-f"])
        except RuntimeError as error:
            return f"there are no loop devices ({error})"
    absent = [name for name in [*filesystems, *more] if not in_kernel(name)]
    if absent:
        return "the kernel has no " + ", ".join(absent)
    if not os.path.isdir("/dev/shm") or shutil.disk_usage("/dev/shm").free < memory * MIB:
        return "there is too little of /dev/shm"
    return None


def lacking(filesystems, more=()):
    """What would have to be installed to run them, or nothing."""
    tools = {"losetup", "mount", "umount", *more, *(FILESYSTEMS[name].make[0] for name in filesystems)}
    absent = sorted(tool for tool in tools if shutil.which(tool) is None)
    return "tools are missing: " + ", ".join(absent) if absent else None


def build():
    """The unit test binary of the library."""
    command = ["cargo", "test", "--release", "--locked", "--features", "cli", "--lib", "--no-run", "--message-format=json"]
    out = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and "lib" in message.get("target", {}).get("kind", []):
            return message["executable"]
    sys.exit("error: the test binary of the library cannot be built")
