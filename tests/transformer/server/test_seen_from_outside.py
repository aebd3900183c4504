"""Counters and log lines."""

from tests.transformer.server.asking import body, get, post
from tests.transformer.serving import Process


def test_requests_are_counted(transformer: Process) -> None:
    def count() -> float:
        text = get(transformer, "/metrics").text
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith('emoji_requests_total{model="openmoji",status="200"}')
        )

    before = count()
    assert post(transformer, "/v2/models/openmoji/infer", body("a cat")).status_code == 200
    assert count() == before + 1
    assert post(transformer, "/v2/models/stranger/infer", body("a cat")).status_code == 404
    assert "stranger" not in get(transformer, "/metrics").text


def test_the_log_has_one_line_a_request_and_no_prompt(transformer: Process) -> None:
    post(transformer, "/v2/models/emoji/infer", body("a 비밀 word"), headers={"x-request-id": "look-for-me"})
    (line,) = [line for line in transformer.log.read_text().splitlines() if "look-for-me" in line]
    assert "model=emoji" in line
    assert "translated=1" in line
    assert "비밀" not in transformer.log.read_text()
