"""The whole way through the registry: publish, roll out, check in, fetch, confirm."""

from __future__ import annotations

from pathlib import Path

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.digest import sha256_hex
from tests.support.registry import build, event, running_registry


def test_a_second_release_comes_as_a_delta(tmp_path: Path) -> None:
    first, second = build("1.0.0"), build("1.1.0", changed=20)
    with running_registry(tmp_path) as registry:
        assert registry.publish(first, 1).status_code == 201
        registry.queue.run()
        assert registry.roll_out(first, "first").json()["state"] == "running"
        car = registry.enrol("car-1")
        assert car.check_in()["assignment"]["release"] == "1.0.0"
        car.runs(first, 1)
        assert "assignment" not in car.check_in(event("confirmed", first))
        assert registry.get("/api/v1/rollouts/first").json()["state"] == "finished"

        assert registry.publish(second, 2).status_code == 201
        assert registry.roll_out(second, "second").json()["state"] == "preparing"
        assert "assignment" not in car.check_in()
        assert set(registry.queue.run()) <= {"offered", "dropped"}
        assert registry.get("/api/v1/rollouts/second").json()["state"] == "running"
        assigned = car.check_in()["assignment"]

        best = assigned["artifact"]["candidates"][0]
        assert best["kind"] == "delta"
        transfer = best["transfers"][0]
        assert transfer["length_bytes"] < len(second.artifact) / 4
        folder, name = transfer["target"].rsplit("/", 1)
        fetched = registry.client.get(f"/tuf/targets/{folder}/{transfer['digest']}.{name}").content
        assert sha256_hex(fetched) == transfer["digest"]
        assert apply_bytes(first.artifact, fetched) == second.artifact
        assert assigned["artifact"]["candidates"][-1]["kind"] == "raw"
