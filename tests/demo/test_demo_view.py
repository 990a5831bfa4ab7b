"""The screen at any size: as many lines as there are, none too long; and what it says."""

import io

import pytest
from demo_world import Story
from rich.cells import cell_len
from rich.console import Console

from server.demo import phrases, view
from server.demo.proof import compare
from server.demo.view import Facts, screen

FACTS = Facts(
    "http://127.0.0.1:40000",
    30.0,
    processes={"postgres": 1, "valkey": 0, "simulator": 0, "serve-1": 2, "serve-2": 0, "work": 0, "envoy": 0},
    fired={"duplicate": 12, "timeout_after_accept": 1},
    faults=True,
)
LINES = [line for dialogue in (*phrases.ORDINARY, *phrases.POLYGLOT) for line, _ in dialogue.turns]


@pytest.fixture
def story() -> Story:
    story = Story()
    for number in range(30):
        customer = phrases.name_of(number)
        line = LINES[number % len(LINES)]
        story.writes(customer, f"{line} " * (number % 4 + 1))
        if number % 3:
            story.answers(customer, phrases.answer_to(line))
    story.world.ledger.notices.append("serve-1 ended by SIGKILL; starting it again " * 3)
    return story


def rendered(story: Story, width: int, height: int) -> list[str]:
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None, record=True
    )
    console.print(screen(story.world, FACTS, width=width, height=height), height=height)
    return console.export_text(styles=False).rstrip("\n").split("\n")


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (80, 50), (115, 30), (116, 30), (160, 45), (240, 60)])
def test_nothing_wraps_and_nothing_is_longer_than_the_screen(story: Story, size: tuple[int, int]) -> None:
    lines = rendered(story, *size)

    assert len(lines) <= size[1]
    assert max(cell_len(line) for line in lines) <= size[0]
    assert lines[0].startswith("Switchboard")
    assert lines[0].rstrip().endswith("● live")


@pytest.mark.parametrize("width", [80, 160])
def test_the_latest_are_on_the_screen(story: Story, width: int) -> None:
    story.writes("Somebody New", "the newest line")

    shown = "\n".join(rendered(story, width, 40))

    assert shown.count("Somebody New") == 2
    assert "the newest line" in shown
    assert f"{len(story.log):>5}  " in shown


def test_rows_stay_where_they_are(story: Story) -> None:
    def order() -> list[str]:
        names = set(phrases.NAMES)
        return [line[:17].strip() for line in rendered(story, 160, 60) if line[:17].strip() in names]

    before = order()
    story.writes(before[3], "again")

    assert order() == before


def test_a_wide_screen_names_every_process_and_every_fault(story: Story) -> None:
    shown = "\n".join(rendered(story, 160, 50))

    assert all(name in shown for name in FACTS.processes)
    assert "timeout after accept" in shown


def test_the_picture_is_an_svg_that_loads_nothing(story: Story) -> None:
    picture = view.picture(story.world, FACTS)

    assert picture.startswith("<svg")
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "").replace(FACTS.url, "").replace(
        "https://www.textualize.io", ""
    )


def test_the_summary_shows_what_is_wrong(story: Story) -> None:
    story.messages.pop(0)
    lines = view.summary(story.world, FACTS, compare(story.world, story.messages, story.log), seconds=3)

    assert any("lost" in line and "messages of customers: 1" in line for line in lines)


def test_every_customer_has_a_name_of_its_own_and_every_line_an_answer() -> None:
    assert len({phrases.name_of(number) for number in range(100)}) == 100
    assert all(phrases.answer_to(line) != "One moment, please." for line in LINES)
