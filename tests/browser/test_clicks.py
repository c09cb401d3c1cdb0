"""Somebody with a browser clicks through the site; pictures of it are kept for the documentation."""

from __future__ import annotations

import pytest

ENDED = "#job[data-finished]"


def press(page, path: str, button: str) -> None:
    """Press a button of a page; its job's page comes up, without a reload from then on."""
    page.goto(path)
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_selector("#job")
    page.evaluate("window.stayed = true")


def title(page) -> str:
    """Wait for the job's end; return the heading. The page was never reloaded."""
    page.wait_for_selector(ENDED)
    assert page.evaluate("window.stayed") is True
    return page.inner_text("h1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_from_the_button_to_the_file(visit, picture, tmp_path, scheme: str) -> None:
    """Progress moves without a reload, the page says when the report is done, and its file can be downloaded."""
    page = visit(color_scheme=scheme, reduced_motion="reduce")  # or the picture shows the bar on its way
    page.goto("/report/")
    page.get_by_label("Place").select_option("Fjellby")
    page.get_by_label("Resamples").fill("1000000")
    page.get_by_role("button", name="Write the report").click()
    page.wait_for_selector("#job")
    page.evaluate("window.stayed = true")
    page.wait_for_function("document.querySelector('progress')?.value > 10")
    assert page.evaluate("window.stayed") is True
    picture(page, f"report-running-{scheme}")
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(ENDED)
    page.goto("/report/")
    page.get_by_label("Place").select_option("Fjellby")
    page.get_by_label("Resamples").fill("30000")
    page.get_by_role("button", name="Write the report").click()
    page.wait_for_selector("#job")
    page.evaluate("window.stayed = true")
    assert title(page) == "Done"
    assert page.title().startswith("Done")
    assert page.inner_text("#said") == "Done"
    picture(page, f"report-done-{scheme}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    assert download.value.suggested_filename == "climate-of-Fjellby.html"
    page.goto(path.as_uri())
    assert page.inner_text("h1") == "The climate of Fjellby"
    picture(page, f"report-file-{scheme}")


def test_the_rows_of_a_slow_query(visit, picture) -> None:
    """The rows come up by themselves when the query is done."""
    page = visit()
    press(page, "/query/", "Find the twins")
    assert title(page) == "Done"
    assert page.locator("tbody tr").count() == 12
    picture(page, "query-light")


def test_a_retry(visit, picture) -> None:
    """The page shows the third attempt's result, and what was wrong with the two before it."""
    page = visit()
    press(page, "/endings/", "Fetch the forecast")
    assert title(page) == "Done"
    assert page.locator(".log li").count() == 2
    picture(page, "retry-light")


def test_a_timeout(visit, picture) -> None:
    """The page says that the time was up."""
    page = visit()
    press(page, "/endings/", "Count to infinity")
    assert title(page) == "Failed"
    assert "TaskTimeout" in page.inner_text(".figure")
    picture(page, "timeout-light")


def test_a_cancel(visit, picture) -> None:
    """The cancel button, reached by keyboard, ends a running job."""
    page = visit()
    press(page, "/endings/", "Watch the sky")
    page.wait_for_selector("[data-state]:text-is('RUNNING')")
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(ENDED)
    assert page.inner_text("h1") == "Cancelled"
    picture(page, "cancel-light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_poison(visit, picture, scheme: str) -> None:
    """The page of a poisonous job says that it is in quarantine, why, and shows each crash."""
    page = visit(color_scheme=scheme)
    press(page, "/endings/", "Touch the lightning")
    assert title(page) == "In quarantine"
    assert page.locator(".log li").count() == 3
    assert "Exit status: 13" in page.inner_text(".log li:last-child")
    picture(page, f"poison-{scheme}", full_page=True)


def test_a_fan_out(visit) -> None:
    """The page shows what the coroutine brought back."""
    page = visit()
    press(page, "/endings/", "Ask the stations")
    assert title(page) == "Done"
    assert "100 stations" in page.inner_text(".figure")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_naive_ways(visit, picture, scheme: str) -> None:
    """Each way's answer is shown beside its button, with how long it took; the meter measures meanwhile."""
    page = visit(color_scheme=scheme, viewport={"width": 1280, "height": 1280})
    page.goto("/naive/")
    page.wait_for_function("document.querySelector('#pulse polyline').getAttribute('points').split(' ').length > 10")
    said = {name: page.locator(f"#{name} output") for name in ("blocking", "thread", "ours", "background-query")}
    page.get_by_role("button", name="Block", exact=True).click()
    page.wait_for_function("document.querySelector('#blocking output').textContent.includes('generated!')")
    page.locator("#thread [name=resamples]").evaluate("input => { input.value = 100000 }")  # long enough to be seen
    page.get_by_role("button", name="Start a thread").click()
    page.wait_for_function("document.querySelector('#thread output').textContent.includes('started!')")
    page.wait_for_function("document.querySelector('.busy').textContent.includes('1 bare thread computes')")
    page.wait_for_function("document.querySelector('.busy').textContent === ''")
    page.get_by_role("button", name="Enqueue").click()
    said["ours"].get_by_role("link").wait_for()
    page.wait_for_function("pings > marks[2].at + 25")  # names of the page's script
    page.evaluate("scrollTo(0, 0)")
    picture(page, f"naive-{scheme}")
    page.get_by_role("button", name="Start one that fails").click()
    page.wait_for_function("!document.querySelector('#thread output').textContent.includes('waiting')")
    assert "started!" in said["thread"].inner_text()
    page.get_by_role("button", name="Run and count").click()
    page.wait_for_function("document.querySelector('#background-query output').textContent.includes('database: 0')")
    said["ours"].get_by_role("link").click()
    page.wait_for_selector(ENDED)
    assert page.inner_text("h1") == "Done"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_inside_a_request(visit, picture, scheme: str) -> None:
    """The button makes the page in three ways: bars are where the calls were, and only the naive way has crosses."""
    page = visit(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page.goto("/inside/")
    page.get_by_label("Language of this request").select_option("fr")
    page.get_by_role("button", name="Make the page in three ways").click()
    page.wait_for_selector("#parallel .lane")
    assert page.locator(".lane").count() == 3 * 8
    assert page.locator("#parallel .bad, #sequential .bad").count() == 0
    assert "8 of 8 answers lost the language" in page.inner_text("#naive .bad >> nth=0")
    starts = page.eval_on_selector_all("#sequential .lane span", "bars => bars.map(bar => bar.offsetLeft)")
    assert starts == sorted(starts)
    assert starts[-1] > starts[0]
    page.evaluate("scrollTo(0, 0)")
    top, end = (page.locator(place).bounding_box() for place in ("#naive", "#parallel"))
    clip = {"x": 0, "y": top["y"], "width": 1280, "height": end["y"] + end["height"] - top["y"]}
    picture(page, f"inside-{scheme}", full_page=True, clip=clip)
