"""The names it serves: the predictor's, with their versions, and its own."""

import pytest

from tests.transformer.server.asking import body, get, outputs, post
from tests.transformer.serving import Process


@pytest.mark.parametrize(
    ("path", "lora"),
    [
        ("emoji", "notoemoji@1"),
        ("kor-serve", "notoemoji@1"),
        ("notoemoji@1", "notoemoji@1"),
        ("notoemoji/versions/1", "notoemoji@1"),
        ("openmoji", "openmoji@1"),
    ],
)
def test_the_predictors_names_and_our_own(transformer: Process, path: str, lora: str) -> None:
    assert outputs(post(transformer, f"/v2/models/{path}/infer", body("a cat")))["lora"] == [lora]
    assert get(transformer, f"/v2/models/{path}/ready").status_code == 200
    described = get(transformer, f"/v2/models/{path}").json()
    assert "language" in [tensor["name"] for tensor in described["inputs"]]
    assert [tensor["name"] for tensor in described["outputs"]][:2] == ["image", "prompt"]


@pytest.mark.parametrize("path", ["nobody", "notoemoji@9", "notoemoji/versions/9", "%2e%2e", "a%20b"])
def test_names_that_nobody_has(either: Process, path: str) -> None:
    for reply in (
        post(either, f"/v2/models/{path}/infer", body("a cat")),
        get(either, f"/v2/models/{path}/ready"),
        get(either, f"/v2/models/{path}"),
    ):
        assert reply.status_code == 404
    assert not {"nobody", "notoemoji@9"} & set(get(either, "/v2/models").json()["models"])


def test_the_metadata_of_a_weighted_alias_comes_through(rest_transformer: Process) -> None:
    assert get(rest_transformer, "/v2/models/emoji").json()["parameters"] == {"route": {"notoemoji@1": 100}}
    assert "parameters" not in get(rest_transformer, "/v2/models/openmoji").json()


def test_models_cannot_be_unloaded_by_strangers(transformer: Process) -> None:
    assert post(transformer, "/v2/repository/models/emoji/unload").status_code in (404, 405, 501)
    assert get(transformer, "/v2/models/emoji/ready").status_code == 200
