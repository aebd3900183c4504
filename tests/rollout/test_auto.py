"""What `auto` counts in one reading of a state."""

from types import SimpleNamespace

from rollout.auto import Auto
from rollout.errors import Rejected
from rollout.metrics import Watch
from rollout.verdict import Limits, Pace

NOTO, OPEN = "notoemoji@1", "openmoji@1"


def version(look, *names):
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    pods = [{"metadata": {"name": name, "uid": name}, "status": ready} for name in names]
    return SimpleNamespace(look=look, pods=tuple(pods))


def read(pages, versions):
    """Two readings of the same state: what was new between them, and what could not be read."""

    def metrics(pod):
        if pod["metadata"]["name"] not in pages:
            raise Rejected("GET …: 400")
        return pages[pod["metadata"]["name"]]

    driver = SimpleNamespace(keep=lambda: None, cluster=SimpleNamespace(metrics=metrics))
    auto = Auto(driver, [100], Limits(), Pace(1, 1))
    new, stable = Watch(), Watch()
    for _ in range(2):
        unread = auto._read(SimpleNamespace(versions=lambda: versions), OPEN, new, stable)
    return new.measured().requests, stable.measured().requests, unread


def test_what_was_served_before_the_watch_does_not_count_with_two_revisions_of_other_looks_either():
    page = 'emoji_requests_total{model="emoji",status="200"} 500\n'
    pages = dict.fromkeys(("a", "b", "c"), page)
    assert read(pages, [version(NOTO, "a"), version("notoemoji@2", "b"), version(OPEN, "c")]) == (0, 0, "")


def test_a_pod_that_answers_something_else_is_named():
    assert read({}, [version(OPEN, "c")]) == (0, 0, "pod c cannot be read (GET …: 400)")
