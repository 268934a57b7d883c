"""Carry out the steps of the Containerfile where no engine builds images, and use what they make.

    python3 .ci/image_steps.py

Every instruction is carried out as it stands, by this machine's shell and Python, in an environment without
anything of the user's. The folders of the image lie below a temporary one: ``/app`` of an instruction is
``…/image/app`` here. The entry point then runs the demo on a tree that nobody may write, as the image's user
where this script may change to it, else as its own. The tree must stay as it was.

This does not show that the base image has what the steps need, nor that a read-only root is enough.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SYSTEM = ("bin", "dev", "etc", "lib", "lib64", "opt", "proc", "root", "run", "sbin", "sys", "usr", "var")
"""Top folders of a base image; a path below any other is one that the steps make."""

KEPT = re.compile(r"(PIP_|SSL_|REQUESTS_CA_BUNDLE$)|.*_proxy$", re.IGNORECASE)
"""Variables of this machine that say how packages are fetched."""

PYTHONS = (Path(sys.base_prefix, "bin", "python3"), Path("/usr/bin/python3"))
"""What may stand for the Python of the base image, the first that the image's user may run."""

STEP_S = 900
"""Longest time of one step [s]."""

SIZE_WITHIN = 0.05
"""How far the size that the Containerfile states may be from the measured one [ratio]."""


@dataclass
class Stage:
    """What the instructions of a stage have set."""

    workdir: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Image:
    """Folders below a place: of the current stage in ``image``, of earlier ones under their names."""

    place: Path
    python: Path

    def __post_init__(self) -> None:
        (self.place / "base").mkdir()
        (self.place / "base" / "python").symlink_to(self.python)
        self.start()

    def start(self, earlier: str = "") -> None:
        """Begin a stage; what the one before made is kept under its name."""
        if earlier:
            (self.place / "image").rename(self.place / earlier)
        (self.place / "image" / "tmp").mkdir(parents=True)

    def here(self, text: str, stage: str = "image") -> str:
        """Return a text with the image's own folders as they are called on this machine."""

        def moved(found: re.Match[str]) -> str:
            return found[0] if found[1] in SYSTEM else f"{self.place}/{stage}{found[0]}"

        return re.sub(r"(?<![\w./:*-])/(\w[\w.-]*)", moved, text)

    def environment(self, stage: Stage) -> dict[str, str]:
        """Return the variables of a step: how to fetch packages, and what the image sets."""
        own = {name: value for name, value in os.environ.items() if KEPT.match(name)}
        plain = {"PATH": f"{self.place}/base:/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108
        known = own | {name: self.here(value) if name != "PATH" else value for name, value in plain.items()}
        for name, value in stage.environment.items():
            known[name] = ":".join(
                known.get(part[1:], "") if part.startswith("$") else self.here(part)
                for part in value.split(":")
            )
        return known


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction and what follows it; each is one line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word not in CARRIED_OUT or rest.endswith("\\"):
            what = "goes on in the next line" if word in CARRIED_OUT else "is not known to this script"
            raise SystemExit(f"Containerfile, line {number}: {word} {what}")
        yield word, rest


def build(text: str, image: Image) -> Stage:
    """Carry out all instructions and return the last stage."""
    stage, name = Stage(), ""
    for word, rest in list(instructions(text)):
        if word == "FROM":
            if name:
                image.start(earlier=name)
            stage, name = Stage(), rest.partition(" AS ")[2] or "last"
        else:
            CARRIED_OUT[word](rest, stage, image)
    return stage


def _enter(rest: str, stage: Stage, image: Image) -> None:
    stage.workdir = rest
    Path(image.here(rest)).mkdir(exist_ok=True)


def _run(rest: str, stage: Stage, image: Image) -> None:
    sys.stderr.write(f"RUN {rest}\n")
    command, folder = ["/bin/sh", "-ec", image.here(rest)], image.here(stage.workdir)
    subprocess.run(command, cwd=folder, env=image.environment(stage), check=True, timeout=STEP_S)


def _copy(rest: str, stage: Stage, image: Image) -> None:
    """Copy from the checkout, less what .containerignore names, or from an earlier stage."""
    source, target = rest.split()[-2:]
    if named := re.fullmatch(r"--from=(\w+) \S+ \S+", rest):
        shutil.copytree(image.here(source, named[1]), image.here(target), symlinks=True)
        return
    if (source, rest) != (".", f". {target}"):
        raise SystemExit(f"Containerfile: COPY {rest}: this script copies the whole context, or from a stage")
    patterns = (ROOT / ".containerignore").read_text("utf-8").split()

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if is_ignored(Path(folder, name).relative_to(ROOT), patterns)}

    to = Path(image.here(stage.workdir), target)
    shutil.copytree(ROOT, to, dirs_exist_ok=True, symlinks=True, ignore=left_out)


def _set(rest: str, stage: Stage, _image: Image) -> None:
    stage.environment |= dict(part.split("=", 1) for part in shlex.split(rest))


def _become(rest: str, stage: Stage, _image: Image) -> None:
    stage.user = rest


CARRIED_OUT = {
    "ARG": lambda *_: None, "FROM": None, "WORKDIR": _enter, "COPY": _copy, "RUN": _run, "ENV": _set,
    "USER": _become,
    "ENTRYPOINT": lambda rest, stage, _: stage.words.update(ENTRYPOINT=json.loads(rest)),
    "CMD": lambda rest, stage, _: stage.words.update(CMD=json.loads(rest)),
}  # fmt: skip
"""What each instruction does."""


def is_ignored(path: Path, patterns: list[str]) -> bool:
    """Whether a path of the checkout matches a pattern: its parts one by one, or its name after ``**/``."""
    for pattern in patterns:
        parts = Path(pattern.removeprefix("**/")).parts
        own = path.parts[-len(parts) :] if pattern.startswith("**/") else path.parts
        if len(own) == len(parts) and all(map(fnmatchcase, own, parts)):
            return True
    return False


def held(tree: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of everything in a tree."""
    found = {}
    for path in sorted(tree.rglob("*")):
        known = path.lstat()
        found[str(path)] = (known.st_mode, known.st_size, known.st_mtime_ns)
    return found


def take_rights(tree: Path) -> None:
    """Let nobody write into a tree."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)


def use(stage: Stage, image: Image) -> None:
    """Run the entry point on a tree that is read-only, with a working folder and a temporary one."""
    tree, work, temporary = (Path(image.here(path)) for path in ("/app", stage.workdir, "/tmp"))  # noqa: S108
    take_rights(tree)
    for folder in (work, temporary):
        folder.chmod(0o777)
    who, before = {}, held(tree)
    if os.geteuid() == 0 and others_may_run(image.python):
        user, group = map(int, stage.user.split(":"))
        who = {"user": user, "group": group, "extra_groups": []}
    sys.stdout.write(f"as user {who.get('user', 'of this script')}, with {image.python}\n")

    def hsa(*words: str) -> str:
        done = subprocess.run(
            [*program, *words], cwd=work, env=image.environment(stage), check=False, timeout=STEP_S,
            capture_output=True, text=True, **who,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{shlex.join([*program, *words])} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    program = [shutil.which(stage.words["ENTRYPOINT"][0], path=image.environment(stage)["PATH"]) or "hsa"]
    assert Path(program[0]).is_relative_to(tree)
    sys.stdout.write(hsa("--version"))
    assert "Usage" in hsa(*stage.words["CMD"])
    hsa("init", "--demo")
    answer = hsa("run", "dynamo-pd")
    sys.stdout.write(answer)
    assert (work / answer.splitlines()[-1].removeprefix("report: ")).is_file()
    assert {path.name for path in work.iterdir()} == {"hsa.toml", "hsa.schema.json", "dynamo-pd", "reports"}
    assert held(tree) == before, "the program wrote into its own folder"


def others_may_run(program: Path) -> bool:
    """Whether a user without rights of their own may read all folders on the way to a program."""
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (program, *program.resolve().parents))


def main() -> None:
    """Build, measure, use; the size is checked against what the Containerfile states."""
    text = (ROOT / "Containerfile").read_text("utf-8")
    python = next((one for one in PYTHONS if one.is_file() and others_may_run(one)), PYTHONS[0])
    with tempfile.TemporaryDirectory() as made:
        image = Image(Path(made), python)
        image.place.chmod(0o755)
        stage = build(text, image)
        files = [path.lstat() for path in Path(image.here("/app")).rglob("*")]
        size_mb = round(sum(file.st_blocks for file in files) / 2048)  # as du -m counts
        use(stage, image)
    stated = int(re.search(r"about (\d+) MB", text)[1])
    sys.stdout.write(f"/app takes {size_mb} MB; the Containerfile says about {stated}\n")
    assert abs(size_mb - stated) <= SIZE_WITHIN * stated


if __name__ == "__main__":
    main()
