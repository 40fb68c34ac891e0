"""Boxes and polygons on the pixel grid, to the pixel, against oracles that look at every pixel by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import block, message, same

from captum_softcam.data._pixels.regions import Box, box_mask, polygon_mask

IMAGE = torch.zeros(3, 8, 10)
FILE = Path("no file, hence no EXIF")
SIZE = (8, 10)


def boxes(*edges, size=None):
    return box_mask([Box(*four) for four in edges], "x.xml", size, FILE, IMAGE)


def polygon(*points, image=IMAGE):
    return polygon_mask([[value for point in points for value in point]], "x.json", None, FILE, image)


class TestBoxes:
    @pytest.mark.parametrize(
        ("edges", "pixels"),
        [
            ((2, 3, 6, 5), (3, 5, 2, 6)),
            ((0, 0, 10, 8), (0, 8, 0, 10)),
            ((2.5, 3.9, 6.1, 5.0), (3, 5, 2, 7)),
            ((1.9999999999, 0, 9.0000000001, 1), (0, 1, 2, 9)),  # sums of floats miss their goal in the last digits
            ((2.2, 3.2, 2.4, 3.3), (3, 4, 2, 3)),  # smaller than a pixel
            ((4, 3, 4, 5), (3, 5, 4, 5)),  # no width: COCO has two of them
            ((-3, -1, 2, 1), (0, 1, 0, 2)),  # beyond two borders
            ((8, 6, 30, 20), (6, 8, 8, 10)),
        ],
    )
    def test_every_pixel_that_is_touched(self, edges, pixels):
        assert same(boxes(edges), block(pixels, size=SIZE))

    def test_union(self):
        assert same(boxes((0, 0, 2, 2), (1, 1, 3, 3)), block((0, 2, 0, 2), (1, 3, 1, 3), size=SIZE))

    @pytest.mark.parametrize("edges", [(10, 0, 12, 2), (-2, 0, 0, 2), (0, 8, 2, 9), (0, -5, 2, -1)])
    def test_outside(self, edges):
        text = message(ValueError, lambda: boxes((0, 0, 1, 1), edges))
        names = [f"{name} {edge}" for name, edge in zip(("left", "top", "right", "bottom"), edges, strict=True)]
        assert text == f"x.xml: the box with the edges {', '.join(names)} lies outside its image of 10x8 pixels."

    def test_size(self):
        assert boxes((0, 0, 1, 1), size=(10, 8)).sum() == 1
        assert message(ValueError, lambda: boxes((0, 0, 1, 1), size=(8, 10))) == (
            "x.xml is for an image of 8x10 pixels, its image has 10x8; its regions would be misplaced."
        )


def crossings(points, x, y):
    """How many edges lie to the left of a point, along its row: odd inside."""
    count = 0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            count += 1
    return count


class TestPolygons:
    def test_a_rectangle_is_its_box(self):
        assert same(polygon((2, 3), (6, 3), (6, 5), (2, 5)), boxes((2, 3, 6, 5)))

    def test_centres_decide(self):
        assert same(polygon((1.6, 2.4), (5.5, 2.4), (5.5, 4.6), (1.6, 4.6)), block((2, 5, 2, 5), size=SIZE))

    def test_a_triangle(self):
        rows = ["1110", "1100", "1000", "0000"]
        expected = torch.tensor([[int(cell) for cell in row] for row in rows]).bool()[None]
        assert same(polygon((0, 0), (3.9, 0), (0, 3.9), image=torch.zeros(3, 4, 4)), expected)

    def test_the_border_cuts(self):
        assert same(polygon((-4, -4), (2, -4), (2, 3), (-4, 3)), block((0, 3, 0, 2), size=SIZE))
        assert same(polygon((8, 6), (40, 6), (40, 60), (8, 60)), block((6, 8, 8, 10), size=SIZE))

    def test_thinner_than_a_pixel(self):
        assert same(polygon((2.1, 3.1), (2.2, 3.1), (2.2, 3.3)), block((3, 4, 2, 3), size=SIZE))
        assert same(polygon((10, 8), (9.9, 8), (10, 7.9)), block((7, 8, 9, 10), size=SIZE))

    def test_union(self):
        parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
        assert same(polygon_mask(parts, "x.json", None, FILE, IMAGE), block((0, 2, 0, 2), (1, 3, 1, 3), size=SIZE))

    @given(points=st.lists(st.tuples(*[st.integers(-60, 160).map(lambda n: n / 10 + 0.013)] * 2), min_size=3, max_size=9))
    @settings(max_examples=40, deadline=None)
    def test_like_asking_every_centre(self, points):
        expected = [[crossings(points, x + 0.5, y + 0.5) % 2 == 1 for x in range(10)] for y in range(8)]
        if np.any(expected):
            assert same(polygon(*points), torch.tensor(expected)[None])

    def test_outside(self):
        assert message(ValueError, lambda: polygon((11, 2), (14.5, 2), (14, 4))) == (
            "x.json: the polygon from (11, 2) lies outside its image of 10x8 pixels."
        )

    def test_size(self):
        text = message(ValueError, lambda: polygon_mask([[0, 0, 1, 0, 1, 1]], "x.json", (1, 1), FILE, IMAGE))
        assert text == "x.json is for an image of 1x1 pixels, its image has 10x8; its regions would be misplaced."
