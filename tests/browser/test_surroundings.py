"""The site without JavaScript, on a phone, in the dark, for a screen reader and for somebody who wants no motion."""

from __future__ import annotations

import pytest

PAGES = ["/", "/report/", "/query/", "/endings/", "/naive/", "/inside/"]
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}

# The contrast of every text with what lies behind it, by the formula of WCAG 2. Run in the page.
POOR_CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (color) => {
    const [r, g, b] = color.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, noscript, option")) continue;
    const [a, b] = [parse(getComputedStyle(element).color).slice(0, 3), behind(element)].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = element.textContent.trim().slice(0, 40);
    if (contrast < 4.5) poor.push(`${element.tagName} ${element.className} ${contrast.toFixed(2)} ${what}`);
  }
  return poor;
}"""
NAMELESS = """() => {
  const named = (element) => element.labels?.length || element.ariaLabel || element.ariaHidden ||
    (element.tagName !== "svg" && element.textContent.trim());
  const all = document.querySelectorAll("input:not([type=hidden]), select, button, progress, a, svg");
  return [...all].filter((element) => !named(element)).map((element) => element.outerHTML);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page_name", PAGES)
def test_text_can_be_read(visit, scheme: str, page_name: str) -> None:
    """Every text has a contrast of at least 4.5 with its ground, in the light and in the dark."""
    page = visit(color_scheme=scheme)
    page.goto(page_name)
    assert page.evaluate(POOR_CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("path", "button"), [("/endings/", "Touch the lightning"), ("/query/", "Find the twins")])
def test_a_jobs_page_can_be_read(visit, scheme: str, path: str, button: str) -> None:
    """The same holds for the page of a job, while it waits or runs and when it has ended; its controls have names."""
    page = visit(color_scheme=scheme)
    page.goto(path)
    page.get_by_role("button", name=button).click()
    page.wait_for_selector("#job")
    assert page.evaluate(POOR_CONTRAST) == []
    page.wait_for_selector("#job[data-finished]")
    assert page.evaluate(POOR_CONTRAST) == []
    assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("page_name", PAGES)
def test_everything_has_a_name(visit, page_name: str) -> None:
    """Every control and every picture says to a screen reader what it is, and the page has one main heading."""
    page = visit()
    page.goto(page_name)
    assert page.evaluate(NAMELESS) == []
    assert page.locator("h1").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


@pytest.mark.parametrize("page_name", PAGES)
def test_a_phone_is_wide_enough(visit, picture, page_name: str) -> None:
    """At 360 pixels nothing sticks out to the side."""
    page = visit(**PHONE)
    page.goto(page_name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if page_name in {"/", "/report/", "/naive/"}:
        picture(page, f"phone-{page_name.strip('/') or 'home'}-light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page(visit, picture, scheme: str) -> None:
    """The first page leads to all the others, in both schemes."""
    page = visit(color_scheme=scheme)
    page.goto("/")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(251, 250, 246)" if scheme == "light" else "rgb(16, 22, 29)"
    )
    for name in PAGES[1:]:
        assert page.locator(f"main a[href='{name}']").count() == 1
    picture(page, f"home-{scheme}")
    page.goto("/endings/")
    picture(page, f"endings-{scheme}")


def test_without_javascript(visit) -> None:
    """Without JavaScript a form leads to the job's page, which reloads itself until the job has ended."""
    page = visit(java_script_enabled=False)
    page.goto("/report/")
    page.get_by_label("Resamples").fill("100000")
    page.get_by_role("button", name="Write the report").click()
    page.wait_for_selector("#job")
    page.wait_for_selector("text=Download the report")
    assert page.locator("h1").inner_text() == "Done"
    page.goto("/naive/")
    assert not page.locator("#pulse").is_visible()
    page.get_by_role("button", name="Start a thread").click()
    assert page.locator("h1").inner_text() == "“Report generation started!”"


def test_no_motion_for_those_who_want_none(visit) -> None:
    """With reduced motion, nothing on a job's page is animated."""
    page = visit(reduced_motion="reduce")
    page.goto("/endings/")
    page.get_by_role("button", name="Watch the sky").click()
    page.wait_for_selector("#job")
    animated = page.evaluate("document.getAnimations().filter((each) => each.playState === 'running').length")
    assert animated == 0
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("#job[data-finished]")
