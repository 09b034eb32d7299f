"""The registry on a real PostgreSQL: the same code, the same end state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from server.store import schema
from server.store.database import Database, database_url
from server.store.tables import Table
from tests.support.postgres import Postgres, postgres
from tests.support.registry import Vehicle, build, event
from tests.support.server_process import ServerProcess, server_process, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_process")]

FIRST, SECOND = build("1.0.0"), build("1.1.0", changed=20)


@pytest.fixture(scope="module")
def database_server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


def test_migrations_make_the_tables_of_the_code(database_server: Postgres, tmp_path: Path) -> None:
    database = Database(database_url(database_server.url, tmp_path))
    try:
        schema.upgrade(database)
        schema.require_current(database)
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, Table.metadata) == []
    finally:
        database.close()


def test_publish_deltas_check_in_and_a_kill(database_server: Postgres, tmp_path: Path) -> None:
    with server_process(tmp_path, {"SQUEEZEOTA_DATABASE_URL": database_server.url}) as server:
        server.start()
        registry = server.registry
        assert registry.publish(FIRST, 1).status_code == 201
        car = registry.enrol("car")
        car.runs(FIRST, 1)
        done = event("confirmed", FIRST)
        assert car.check_in(done)["accepted"] == [done["id"]]
        assert registry.publish(SECOND, 2).status_code == 201
        assert registry.roll_out(SECOND, "second").status_code == 201
        server.kill()
        server.start()
        wait_until(lambda: registry.get("/api/v1/rollouts/second").json()["state"] == "running")
        candidates = car.check_in(done)["assignment"]["artifact"]["candidates"]
        assert [c["kind"] for c in candidates] == ["delta", "compressed_full", "raw"]
        assert registry.get("/api/v1/vehicles/car").json()["confirmed"] == "1.0.0"
        assert not (server.data / "registry.sqlite").exists()
        assert not (server.data / "workflows.sqlite").exists()
        assert one_of_many_publishes(server)
        assert_odd_events_are_kept(car)
        assert_survives_its_database(server, database_server)


def one_of_many_publishes(server: ServerProcess) -> bool:
    """Publish four releases at the same moment; tell whether those that were refused can follow."""
    builds = [build(f"2.{number}.0", seed=number) for number in range(4)]
    targets = [server.registry.signed(server.registry.next_targets(made, 3)) for made in builds]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.registry.publish, builds, [3] * 4, targets))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    refused = next(made for made, answer in zip(builds, answers, strict=True) if answer.status_code == 409)
    return server.registry.publish(refused, 4).status_code == 201


def assert_odd_events_are_kept(car: Vehicle) -> None:
    """Send what PostgreSQL itself would refuse: the vehicle must get rid of its events."""
    said = [event("waiting") | {"detail": "a\0b"}, event("waiting", odd="\0", pad=["\ud83d\ude00"])]
    said += [event("waiting") | {"at": at} for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00")]
    content = json.dumps(car.body([*said, event("waiting", speed=float("nan"), far=float("-inf"))]))
    headers = {"Authorization": f"Bearer {car.token}"}
    answer = car.client.post("/api/v1/check-in", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["accepted"]) == 5


def assert_survives_its_database(server: ServerProcess, database_server: Postgres) -> None:
    """Take the database away and give it back: the registry says so, and works again without a restart."""
    database_server.stop()
    for path in ("/readyz", "/api/v1/vehicles"):
        answer = server.registry.get(path)
        assert answer.status_code == 503, answer.text
        assert answer.json()["remedy"]
    database_server.start()
    assert server.registry.get("/readyz").status_code == 200
    assert server.registry.get("/api/v1/vehicles/car").status_code == 200
