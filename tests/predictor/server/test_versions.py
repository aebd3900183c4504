"""Which version draws: weighted aliases, aliases that move, mixes, versions that come and go."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from tests.predictor.server.asking import body, drawn, message, outputs
from tests.predictor.serving import Predictor
from weights.store import Store


def test_shares_change_live_under_load_and_a_key_moves_once(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")
    stop = threading.Event()
    seen: dict[str, list[str]] = {}

    def route() -> object:
        return server.http.get("/v2/models/emoji").json().get("parameters", {}).get("route", {})

    def share_out(percent: int) -> None:
        shares = {"notoemoji@1": 100 - percent, "openmoji@1": percent}
        store.set_route("emoji", shares)
        server.wait_until(lambda: route() == shares)

    def ask_rest(key: str) -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while not stop.is_set():
                reply = client.post(
                    "/v2/models/emoji/infer", json=body("a", steps=1), headers={"X-Sticky-Key": key}
                )
                seen[key] += drawn(reply)["lora"]

    def ask_grpc(key: str) -> None:
        while not stop.is_set():
            reply = outputs(server.grpc.ModelInfer(message("a", steps=1, sticky_key=key)))
            seen[key] += [lora.decode() for lora in reply["lora"]]

    def pictures() -> int:
        text = server.http.get("/metrics").text
        found = re.findall(r'^emoji_pictures_total\{lora="(?:notoemoji|openmoji)@1"\} (\S+)$', text, re.M)
        return int(sum(map(float, found)))

    before = pictures()
    share_out(0)
    with ThreadPoolExecutor(4) as pool:
        asking = []
        for number in range(4):
            seen[f"user {number}"] = []
            asking.append(pool.submit((ask_rest, ask_grpc)[number % 2], f"user {number}"))
        try:
            for percent in (30, 60, 100):
                lengths = {key: len(loras) for key, loras in seen.items()}
                server.wait_until(lambda: all(len(seen[key]) >= lengths[key] + 2 for key in seen))  # noqa: B023
                share_out(percent)
            lengths = {key: len(loras) for key, loras in seen.items()}
            server.wait_until(lambda: all(len(seen[key]) >= lengths[key] + 2 for key in seen))
        finally:
            stop.set()
    try:
        for task in asking:
            task.result()  # none of its requests failed
        for loras in seen.values():
            assert loras == sorted(loras), "a key that has seen the canary stays with it"
            assert (loras[0], loras[-1]) == ("notoemoji@1", "openmoji@1")
        assert pictures() - before == sum(map(len, seen.values()))
    finally:
        store.remove_route("emoji")
        server.wait_until(lambda: route() == {})
    assert drawn(server.http.post("/v2/models/emoji/infer", json=body("a")))["lora"] == ["notoemoji@1"]


def test_a_moved_alias_counts_without_a_restart(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")

    def version() -> object:
        return server.http.post("/v2/models/notoemoji/infer", json=body("a", steps=1)).json()["model_version"]

    store.set_alias("stable", store.resolve("notoemoji@2"))
    server.wait_until(lambda: version() == "2")
    store.set_alias("stable", store.resolve("notoemoji@1"))
    server.wait_until(lambda: version() == "1")


def test_a_mix_is_drawn_and_told_on_every_api(server: Predictor) -> None:
    mix = "notoemoji:0.7+openmoji:0.3"
    exact = "notoemoji@1:0.7+openmoji@1:0.3"
    ask = "/v2/models/emoji/infer"
    server.http.post(ask, json=body("a", lora="openmoji"))
    server.http.post(ask, json=body("a", lora=mix))
    names = (
        r'emoji_pictures_total\{lora="mix"\}',
        r'emoji_mixed_pictures_total\{lora="openmoji@1"\}',
        r'emoji_pictures_total\{lora="openmoji@1"\}',
    )
    before = [server.gauge(name) for name in names]
    first = drawn(server.http.post(ask, json=body("a", seed=1, lora=mix)))
    assert first["lora"] == [exact]
    again = drawn(server.http.post(ask, json=body("a", seed=1, lora=exact)))
    assert np.array_equal(again["image"], first["image"])
    scaled = drawn(server.http.post(ask, json=body("a", seed=1, lora=mix, lora_scale=0.5)))
    assert scaled["lora"] == [exact]
    assert not np.array_equal(scaled["image"], first["image"])
    halves = drawn(server.http.post(ask, json=body("a", seed=1, lora="notoemoji:0.35+openmoji:0.15")))
    assert np.array_equal(halves["image"], scaled["image"])
    reply = outputs(server.grpc.ModelInfer(message("a", seed=1, lora=mix)))
    assert [lora.decode() for lora in reply["lora"]] == [exact]
    instances = {"instances": [{"prompt": "a", "seed": 1, "lora": mix}, {"prompt": "a", "lora": "openmoji"}]}
    v1 = server.http.post("/v1/models/emoji:predict", json=instances).json()["predictions"]
    assert [one["lora"] for one in v1] == [exact, "openmoji@1"]
    counted = [server.gauge(name) - former for name, former in zip(names, before, strict=True)]
    assert counted == [6, 6, 1]


def test_versions_come_and_go_while_it_serves(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")
    former = store.resolve("openmoji@1")
    version = store.add(store.load(former), former.manifest)
    ask = f"/v2/models/{version}"
    server.wait_until(lambda: server.http.get(f"{ask}/ready").status_code == 200)
    ours = drawn(server.http.post(f"{ask}/infer", json=body("a", seed=1)))
    assert ours["lora"] == [str(version)]
    theirs = drawn(server.http.post("/v2/models/openmoji@1/infer", json=body("a", seed=1)))
    assert np.array_equal(theirs["image"], ours["image"])
    assert server.gauge("emoji_loras") == server.gauge("emoji_resident_loras") == 4
    store.remove("openmoji", version.version)
    server.wait_until(lambda: server.http.get(f"{ask}/ready").status_code == 404)
    assert server.http.post(f"{ask}/infer", json=body("a")).status_code == 404
    server.wait_until(lambda: server.gauge("emoji_loras") == 3)
    assert f"{version} is served from now on" in server.log
