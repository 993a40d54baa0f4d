"""Every pixel of every box meets every block once, whatever the number of workers, and none of them has much more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv._window import make_window
from fastconv.cpu import _jit, shares
from fastconv.cpu.plan import Reading, box_at, make_plan


@_jit.compiled
def count_shares(worker, workers, plan, boxes, blocks, reading, preparing, met, work):  # type: ignore[no-untyped-def]
    """met[pixel of the grid, block] and work[worker] go up by one for each."""
    shared = shares.share_boxes(boxes, blocks, shares.extent_of(plan, 0), reading, preparing, workers)
    pixels = met.size // blocks
    for number in range(worker, shared.items, workers):
        item = shares.share_at(shared, number, workers)
        box = shares.part_of(box_at(plan, 0, item.index), plan, 0, item.part, item.parts)
        count = box.depth * box.height * box.width
        for image in range(box.images):
            for p in range(count):
                for block in range(item.first, item.last):
                    met[(((box.n + image) * pixels // plan[0, 1, 2]) + box.grid + p) * blocks + block] += 1
                    work[worker] += 1


@given(
    images=st.integers(1, 5),
    size=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    blocks=st.integers(1, 9),
    workers=st.integers(1, 70),
    reading=st.sampled_from([1.0, 16.0, 1e9]),
    preparing=st.sampled_from([1.0, 16.0, 1e9]),
)
def test_all_is_shared_out_once(images, size, blocks, workers, reading, preparing):
    one = (1, 1, 1)
    window = make_window(size, one, one, ((0, 0),) * 3, one)
    plan = make_plan(window, False, images, 16, 1, 4, Reading(False, most=97))
    met = np.zeros(images * int(np.prod(size)) * blocks, np.int64)
    work = np.zeros(workers, np.int64)
    for worker in range(workers):
        count_shares(worker, workers, plan.numbers, plan.header.boxes, blocks, reading, preparing, met, work)
    assert met.tolist() == [1] * met.size


@pytest.mark.parametrize(
    ("boxes", "blocks", "images", "workers", "largest"),
    [
        (1, 4, 1, 2, 1 / 2),  # blocks in two ranges
        (1, 3, 4, 2, 1 / 2),  # no two equal ranges of three blocks: images in two
        (1, 1, 4, 4, 1 / 4),
        (1, 8, 4, 16, 1 / 16),  # ranges of both
        (1, 1, 1, 4, 1.0),  # a row of pixels stays whole
    ],
)
def test_the_largest_share(boxes, blocks, images, workers, largest):
    one = (1, 1, 1)
    plan = make_plan(make_window((1, 1, 6), one, one, ((0, 0),) * 3, one), False, images, 16, 1, 4, Reading(False))
    assert plan.header.boxes == boxes
    met, work = np.zeros(images * 6 * blocks, np.int64), np.zeros(workers, np.int64)
    for worker in range(workers):
        count_shares(worker, workers, plan.numbers, boxes, blocks, 1e9, 1e9, met, work)
    assert work.max() == met.size * largest
