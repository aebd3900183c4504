"""Where the matrices of LoRAs lie, and how many products a batch takes."""

from predictor.diffusion.adapters import AdapterPool
from tests.predictor.diffusion.small_net import make_lora, make_net, make_pool


def test_rows_of_one_choice_share_a_product():
    _, pool = make_pool()
    [slab, *_] = pool._slabs
    for rows, groups in [("aaaa", 1), ("aabb", 2), ("aaaabb", 3), ("aab", 3), ("abab", 4)]:
        pool.select([((f"{name}@1", 1.0),) for name in rows])
        assert slab._shape is not None
        assert slab._shape[0] == groups, rows


def test_the_room_is_doubled_and_then_stays_where_it_is():
    pool = AdapterPool(make_net())
    places = set()
    for number in range(100):
        pool.add(pool.prepare(f"n@{number}", make_lora(number, rank=4)))
        pool.select([((f"n@{number}", 1.0),), ()])
        [slab] = pool._slabs
        places.add((slab._pages.data_ptr(), slab._chosen.data_ptr()))
    assert len(pool.resident) == 100
    assert len(places) <= 6  # room for 16, 32 … 512 pages
