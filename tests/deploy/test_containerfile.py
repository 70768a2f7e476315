"""deploy/Containerfile: what it copies exists, what it installs is locked, and what it runs as is nobody special."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import NamedTuple

import pytest

from tests.deploy.deployed import DEPLOY, ROOT, parse, text, variables

KNOWN = {
    "ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR",
}  # fmt: skip


class Instruction(NamedTuple):
    word: str
    rest: str


def instructions() -> list[Instruction]:
    lines = [line for line in text("Containerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for each in instructions():
        if each.word == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([a-z0-9.-]+)(?:\[[^]]*\])?==([^ ]+)", line) for line in lines)
    return {each[1]: each[2] for each in found if each}


def test_it_has_the_instructions_of_a_container_file() -> None:
    assert {each.word for each in instructions()} <= KNOWN
    assert [each.word for each in instructions()][:2] == ["ARG", "FROM"]


def test_the_base_is_pinned_by_a_tag() -> None:
    base = next(each.rest for each in instructions() if each.word == "ARG")

    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.\d+-slim-\w+", base)
    assert [each.rest.split()[0] for each in instructions() if each.word == "FROM"] == ["${BASE}", "${BASE}"]


def test_everything_copied_is_there_and_not_ignored() -> None:
    allowed = [line[1:] for line in text("Containerfile.dockerignore").splitlines() if line.startswith("!")]
    copied = [each.rest.split() for each in instructions() if each.word == "COPY"]
    sources = [source for words in copied if not words[0].startswith("--from") for source in words[:-1]]

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not any(fnmatch.fnmatch(source, each) for each in allowed)] == []
    assert [each for each in allowed if each not in sources] == []


def test_every_package_comes_by_a_lock_with_hashes_and_as_a_wheel() -> None:
    installs = [
        each.rest
        for each in instructions()
        if each.word == "RUN" and re.search(r"\bpip (--python \S+ )?install ", each.rest)
    ]
    by_lock = [each for each in installs if "-r " in each]

    assert len(by_lock) == 3
    assert all(re.search(r"--require-hashes --only-binary=:all: -r (deploy/)?requirements", each) for each in by_lock)
    # The other one installs what was built here.
    assert ["--no-deps --no-index /wheels/" in each for each in installs if each not in by_lock] == [True]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock", "../requirements-pip.lock"])
def test_the_lock_has_hashes_and_no_host(name: str) -> None:
    lines = text(name).splitlines()
    heads = [line for line in lines if re.match(r"[a-z0-9]", line)]

    assert heads
    assert all("==" in line and line.endswith("\\") for line in heads)
    assert [line for line in lines if "://" in line] == []


def test_the_image_has_the_versions_that_are_tested() -> None:
    tested = pins("requirements-dev.lock")
    image = pins("deploy/requirements.lock")

    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}
    built = {"hatchling", "editables", "pathspec", "tomlkit", "trove-classifiers", "packaging", "pluggy"}
    assert pins("requirements.lock").keys() - image.keys() <= built
    assert {"dagster-postgres", "dagster-k8s", "dagster-webserver", "psycopg-binary", "psycopg2-binary"} <= image.keys()
    assert image.keys() & {"hatchling", "editables", "pytest", "pip", "setuptools", "wheel"} == set()


def test_nothing_is_built_or_installed_in_the_final_image() -> None:
    final = " ".join(each.rest for each in stages()[-1] if each.word == "RUN")

    assert "pip uninstall --yes" in final
    assert re.findall(r"apt-get|apk |gcc|pip install|curl|wget", final) == []


def test_it_runs_as_a_number_that_is_not_root() -> None:
    users = [each.rest for each in stages()[-1] if each.word == "USER"]

    assert users == ["10001:10001"]
    words = [each.word for each in stages()[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_what_it_runs_and_asks_are_commands_there_are() -> None:
    final = stages()[-1]
    command = json.loads(next(each.rest for each in final if each.word == "CMD"))
    check = next(each.rest for each in final if each.word == "HEALTHCHECK")

    assert parse(command) == "dagster api grpc"
    assert parse(json.loads(check.partition("CMD ")[2])) == "dagster api grpc-health-check"
    port = command[command.index("--port") + 1]
    assert f'"{port}"' in check
    assert [each.rest for each in final if each.word == "EXPOSE"] == [port]


def test_its_variables_are_settings() -> None:
    named = set(re.findall(r"\b(MEDSCRIBE_\w+)=", text("Containerfile")))

    assert named == {"MEDSCRIBE_HOME"}
    assert named <= variables()


def test_no_secret_is_given_to_the_build() -> None:
    ignored = text("Containerfile.dockerignore").splitlines()

    assert "*" in ignored
    assert [line for line in ignored if line.startswith("!") and ("secret" in line or "env" in line)] == []
    assert (DEPLOY / "secrets" / ".gitignore").read_text(encoding="utf-8").splitlines()[0] == "*"
