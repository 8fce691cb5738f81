"""A reserve map is a set of pages, each with the cgroup it was first charged to."""

from hypothesis import given
from hypothesis import strategies as st

from hugepool.mm.machine.resv_map import ResvMap

STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(1, 12), st.integers(0, 2)), max_size=30
)


@given(STEPS)
def test_regions_say_the_same_as_a_page_by_page_list(steps: list[tuple[bool, int, int, int]]) -> None:
    regions, pages = ResvMap(), dict[int, int]()
    for adds, first, count, cgroup in steps:
        end = first + count
        inside = [page for page in pages if first <= page < end]
        assert regions.pages(first, end) == len(inside)
        if adds:
            regions.add(first, end, cgroup)
            pages |= {page: cgroup for page in range(first, end) if page not in pages}
        else:
            gone = regions.remove(first, end)
            assert +gone == {n: c for n in range(3) if (c := sum(pages[page] == n for page in inside))}
            for page in inside:
                del pages[page]
        assert list(regions) == sorted(pages)
        assert regions.pages() == len(pages)
        assert all(page in regions for page in pages)
        assert 99 not in regions
        for (_, stop, one), (start, _, other) in zip(regions.regions, regions.regions[1:], strict=False):
            assert stop < start or (stop == start and one != other)  # neighbours are joined
