"""Campaign 11: mirrors that fail in every way."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import os
import threading
import time
from pathlib import Path
from unittest import mock

import mnist_data
from benchmarks.faults.campaign import Seen, require
from config import Config

FILE = "t10k-images-idx3-ubyte"  # the one that is missing
FAULTS = ("404", "500", "silent", "hanging", "cut", "wrong", "long")
TRIES = [*itertools.product(FAULTS, ("good", "404", "auto"))]
TIME_OUTS = {  # seconds that a mirror may take by its fault, on top of the 5 that anything may
    "silent": mnist_data.SILENCE_SECONDS,
    "hanging": mnist_data.SILENCE_SECONDS,
}


class Mirror(http.server.BaseHTTPRequestHandler):
    """/<fault>/<file>: the real file, or what the fault makes of it."""

    def do_GET(self):
        fault, file = self.path.strip("/").split("/")
        content = (Path(Config().data_dir) / "mnist" / file).read_bytes()
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "silent":
            self.server.over.wait(60)
        short = content[:-100]
        body = {"cut": short, "hanging": short, "wrong": content[:-1] + b"?", "long": content + b"?"}.get(
            fault, content
        )
        self.send_response(200)
        self.send_header("Content-Length", str(max(len(body), len(content))))
        self.end_headers()
        self.wfile.write(body)
        if fault == "hanging":
            self.server.over.wait(60)

    def log_message(self, *words):
        pass


def load_from(paths: tuple[str, ...], name: str, data_dir: Path) -> tuple[str | None, str]:
    """The data set that `load` gives, if any, and its note or its error."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.over, server.daemon_threads = threading.Event(), True
        server.handle_error = lambda *about: None  # that clients hang up is to be expected
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{path}/" for path in paths]
        addresses = mock.patch.object(mnist_data, "MIRRORS", {"mnist": urls})
        try:
            with addresses, mock.patch.dict(os.environ, NO_PROXY="127.0.0.1"):
                data = mnist_data.load(name, data_dir)
            return data.name, data.note
        except mnist_data.DataError as error:
            return None, str(error)
        finally:
            server.over.set()
            server.shutdown()


def downloads(number: int, folder: Path, seen: Seen) -> None:
    """A mirror answers with an error, hangs, breaks off, sends another file or too much: the next one is asked

    One file of MNIST is missing; the mirrors are on 127.0.0.1, and nothing but their addresses is replaced. With a good
    second mirror the file must come, with its checksum. Without, a short DataError must name folder and file, or `auto`
    must be the digits and say so. No other file may be left, and it may take no longer than the time-outs and 5 s.
    """
    (fault, second), place, checksum = TRIES[number], folder / "mnist", mnist_data.SHA256[f"mnist/{FILE}"]
    place.mkdir()
    for path in (Path(Config().data_dir).absolute() / "mnist").glob("*.gz"):
        if path.name != f"{FILE}.gz":
            (place / path.name).symlink_to(path)
    before, begin = set(place.iterdir()), time.perf_counter()
    paths = fault, "good" if second == "good" else "404"
    got, told = load_from(paths, "auto" if second == "auto" else "mnist", folder)
    took, left = time.perf_counter() - begin, sorted(set(place.iterdir()) - before)
    what = f"{fault}, then {second}"
    seen["seconds"].append(took)
    require(took < TIME_OUTS.get(fault, 0) + 5, f"{what}: took {took:.1f} s")
    require(got == {"good": "mnist", "404": None, "auto": "digits"}[second], f"{what}: {got}, {told}")
    require(left == [place / f"{FILE}.gz"] * (second == "good"), f"{what}: left {left}")
    if second == "good":
        require(hashlib.sha256(left[0].read_bytes()).hexdigest() == checksum, f"{what}: took a wrong file")
    else:
        expected = {"404": f"{place}: {FILE} is missing", "auto": "INSTEAD OF MNIST"}[second]
        require(expected in told and len(told) < 300, f"{what}: {told}")
    seen["answer"].append({"good": "from the second", "404": "as an error", "auto": "digits instead"}[second])
