"""What tests/interop/report does not do in the shell. Usage: report.py WHAT ARGUMENT..."""

import gzip
import hashlib
import html.parser
import io
import json
import pathlib
import random
import struct
import sys
import tarfile
import zlib

# Names that end every kind of context of a page.
HOSTILE = ["<img src=x onerror=hostile()>", "</title></script><script>hostile()</script>", "\"'><b>hostile", "a&amp;b"]


def in_path(name):
    """A name without what would divide a path."""
    return name.replace("/", "!")


def layout(directory):
    """Images that share files, with names that nobody would choose."""
    root = pathlib.Path(directory)
    blobs = root / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(media_type, content, **more):
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    draw = random.Random(7)
    shared = [draw.randbytes(draw.randrange(1, 60_000)) for _ in range(12)]
    manifests = []
    for number, name in enumerate([*HOSTILE, "base:1", "base:2"]):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as archive:
            contents = [*shared[: 4 + number], bytes(8192), draw.randbytes(20_000)]
            for at, content in enumerate(contents):
                entry = tarfile.TarInfo(f"{in_path(HOSTILE[at % len(HOSTILE)])}/{number}-{at}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        layer = gzip.compress(plain.getvalue(), mtime=0)
        prefix = "application/vnd.oci.image"
        config = {"created": f"2026-01-0{9 - number}T00:00:00Z", "architecture": "amd64", "os": "linux"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{prefix}.manifest.v1+json",
            "config": put(f"{prefix}.config.v1+json", json.dumps(config).encode()),
            "layers": [put(f"{prefix}.layer.v1.tar+gzip", layer)],
        }
        named = {"annotations": {"org.opencontainers.image.ref.name": name}}
        manifests.append(put(manifest["mediaType"], json.dumps(manifest).encode(), **named))
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def requests(log):
    """The addresses that a browser has asked for on behalf of a page."""
    text = pathlib.Path(log).read_text(encoding="utf-8", errors="replace").rstrip().rstrip(",")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        # A browser that ends does not always close its log.
        found = json.loads(text + "]}")
    begun = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    for event in found["events"]:
        asked = event.get("params", {})
        # What no page is the origin of, the browser asks for by itself.
        if event["type"] == begun and asked.get("initiator", "not an origin") != "not an origin":
            print(asked["url"])


PROBE = """<script>
const clipped = [];
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      clipped.push(svg.getAttribute("aria-label") + ": " + text.textContent);
  }
}
const column = (table, at) => [...document.getElementById(table).tBodies[0].rows].map((row) => row.cells[at].dataset.value ?? row.cells[at].textContent);
const click = (table, at) => { document.querySelectorAll("#" + table + " th button")[at].click(); return column(table, at); };
const wide = document.documentElement.scrollWidth > window.innerWidth;
const found = { clipped, wide, sizes: click("table-wasted", 1), turned: click("table-wasted", 1), names: click("table-images", 0) };
document.body.dataset.probe = JSON.stringify(found);
</script></body>"""


def probe(page):
    """The page, with a script that looks at how it is shown."""
    text = pathlib.Path(page).read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    print(text.replace("</body>", PROBE), end="")


class Page(html.parser.HTMLParser):
    """Elements with their attributes, and the cells of tables."""

    def __init__(self, path):
        super().__init__()
        self.elements = []
        self.parents = []
        self.text = []
        self.feed(pathlib.Path(path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("figure", "table"):
            self.parents.append(attributes.get("id", ""))
        self.elements.append((tag, attributes, self.parents[-1] if self.parents else ""))

    def handle_endtag(self, tag):
        if tag in ("figure", "table"):
            self.parents.pop()

    def handle_data(self, data):
        self.text.append(data)

    def bars(self, figure):
        """Values of the bars of a plot by label and figure."""
        bars = (a for tag, a, parent in self.elements if parent == figure and tag == "rect" and a.get("class") == "bar")
        return {(bar["data-label"], bar["data-figure"]): float(bar["data-value"]) for bar in bars}


def probed(dom):
    """What the script of `probe` has found."""
    body = next(a for tag, a, _ in Page(dom).elements if tag == "body")
    found = json.loads(body["data-probe"])
    assert found["clipped"] == [], found["clipped"]
    assert not found["wide"], "the page is wider than the window"
    sizes = [int(size) for size in found["sizes"]]
    assert len(sizes) > 3 and sizes == sorted(sizes, reverse=True), sizes
    assert [int(size) for size in found["turned"]] == sorted(sizes), found["turned"]
    names = [name.rsplit("base:")[-1] for name in found["names"]]
    assert len(names) == 6 and names.index("1") + 1 == names.index("2"), found["names"]


def numbers(dom, report):
    """The plots show what the JSON says."""
    page = Page(dom)
    report = json.loads(pathlib.Path(report).read_text(encoding="utf-8"))
    names = [row["name"] for row in report["granularities"]]
    assert len(names) == 4, names
    ratios, disk = page.bars("plot-ratios"), page.bars("plot-disk")
    for row in report["granularities"]:
        assert abs(ratios[row["name"], "ratio-logical"] - row["ratioLogical"]) < 0.0002, row["name"]
        assert abs(ratios[row["name"], "ratio-beyond-blobs"] - row["ratioBeyondBlobs"]) < 0.0002, row["name"]
        assert disk[row["name"], "packed-bytes"] == row["packedBytes"], row["name"]
        assert disk[row["name"], "index-bytes"] == row["indexBytes"], row["name"]
        bars = page.bars(f"plot-histogram-{row['name']}")
        for bar in row["histogram"]:
            assert bars[str(bar["references"]), "unique-bytes"] == bar["uniqueBytes"], bar
            assert bars[str(bar["references"]), "referenced-bytes"] == bar["referencedBytes"], bar
    lines = {
        (parent, a["data-granularity"]): a["data-values"]
        for tag, a, parent in page.elements
        if tag == "path" and a.get("class") == "curve"
    }
    bands = [a for tag, a, _ in page.elements if tag == "path" and a.get("class") == "band"]
    assert len(report["growth"]) >= 3 and len(lines) == len(report["growth"]), (len(lines), len(report["growth"]))
    assert len(bands) == sum(curve["order"] == "shuffled" for curve in report["growth"]) > 0
    for curve in report["growth"]:
        values = " ".join(str(point["uniqueBytes"]) for point in curve["points"])
        assert lines[f"plot-growth-{curve['order']}", curve["granularity"]] == values, curve["granularity"]
    assert report["matrices"], "no matrix"
    for matrix in report["matrices"]:
        squares = [
            a for _, a, parent in page.elements if parent == f"plot-matrix-{matrix['granularity']}" and "data-jaccard" in a
        ]
        assert len(squares) == len(report["images"]) ** 2, len(squares)
        for square in squares:
            value = matrix["jaccard"][int(square["data-row"])][int(square["data-column"])]
            assert abs(float(square["data-jaccard"]) - value) < 0.0002, square
    text = "".join(page.text)
    for name in HOSTILE:
        assert in_path(name) in text, name
    rows = [tag for tag, _, parent in page.elements if parent == "table-wasted" and tag == "tr"]
    assert len(rows) == 1 + len(report["wastedFiles"]) > 1, len(rows)


def picture(path):
    """A picture that is not of one colour."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    assert width == 1440 and height >= 1000, (width, height)
    assert len(set(zlib.decompress(packed))) > 50


globals()[sys.argv[1]](*sys.argv[2:])
